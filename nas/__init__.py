"""Owns the composition: searches, studies, exports.

Does not own networks (`search_spaces`) nor who chooses them (`controllers`).
"""
