"""Makes kernels of GPUs into images of code, and those into libraries."""
