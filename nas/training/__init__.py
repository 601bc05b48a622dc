"""Owns training and measuring one network by a recipe.

Does not own which network, nor where it runs.
"""
