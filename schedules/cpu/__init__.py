"""Kernel families for CPUs. Importing this package registers them."""
