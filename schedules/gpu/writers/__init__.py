"""Writers of kernels for GPUs, as the text of one vendor's assembly each."""
