"""Latency tables: measured blocks of a space, and the latency they predict of its networks."""
