"""Trains and measuring one network by a recipe."""
