"""Sparsity attributes of tensors (TeSA), quantization grids, and the patterns and statistics of weights."""
