"""Owns where trials run: in this process, or in Ray actors.

Does not own what a trial does (`nas.training.training`) nor which trials there are (`nas.loop`).
"""
