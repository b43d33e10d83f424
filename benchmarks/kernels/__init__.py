"""Kernels of tesa beside every peer that is installed, on the same weights: `python -m benchmarks.kernels`."""
