"""Kernels of tesa beside every peer that is installed, on the same weights in one run: `python -m benchmarks.kernels`."""
