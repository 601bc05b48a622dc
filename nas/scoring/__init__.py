"""Predictions of a trained network on images, and their scores where the labels are known."""
