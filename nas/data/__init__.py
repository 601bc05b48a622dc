"""Owns images: where they come from, their checks, and their three splits.

Does not own batches on a device (`nas.training.training`).
"""
