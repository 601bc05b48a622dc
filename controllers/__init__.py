"""Owns who chooses the candidates of a search.

Does not own networks or training: controllers see numbers only.
"""
