"""Owns judging proxies before a search is paid for: how well a short training ranks as a longer one does.

Does not own training by a proxy (`nas.training.proxy`) nor how the verdict is shown (`nas.reports`).
"""
