"""Compares kernels with NumPy and times them, on this machine or on devices of an RPC tracker."""
