"""Owns how long a network takes on a device: measured, stored with its origin, and predicted from blocks.

Does not own costs that need no device (`search_spaces.costs`).
"""
