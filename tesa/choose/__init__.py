"""Chooses the kernel of each layer from what was measured or is expected."""
