"""tesa compiles pruned and quantized neural networks into kernels made for exactly their sparsity pattern."""

__version__ = "0.1.0"
