"""Checks whether this machine can search, train and export."""
