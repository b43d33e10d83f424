"""Measuring on this machine's GPU: the driver that is found, and a runner of kernels on it."""
