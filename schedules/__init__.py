"""Kernel families, one file each. Knows TVM, NumPy and the types in types.py, and nothing else of tesa."""
