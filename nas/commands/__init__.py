"""Owns the command line.

Does not own what the commands do: each calls what a Python program would call.
"""
