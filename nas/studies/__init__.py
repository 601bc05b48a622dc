"""Owns studies on disk: the journal, the weights that are kept, and reading a study back.

Does not own the search that fills them.
"""
