"""Owns the bundle a network leaves the study in.

Does not own the network's source (`search_spaces.to_source`).
"""
