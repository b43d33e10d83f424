"""Writers of panels for GPUs, one file for each vendor's assembly. Importing this package registers them."""

from tesa.schedules.gpu.writers import amd, ptx

__all__ = ["amd", "ptx"]
