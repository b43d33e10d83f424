"""Whole networks, float32 and int8, dense and pruned, beside other engines."""
