"""Interpreters of GPU kernels on NumPy, for tests without a GPU. simulate.py has what to import."""
