"""Owns what people see of a search: live progress, tables, pictures, TensorBoard, the final comparison.

Does not own the search: everything here reads.
"""
