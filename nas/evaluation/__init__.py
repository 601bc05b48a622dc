"""Judges proxies before a search is paid for: how well a short training ranks as a longer one does."""
