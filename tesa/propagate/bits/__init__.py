"""Bits: the range of every tensor, and the grid of fewest bits that it may be rounded to."""
