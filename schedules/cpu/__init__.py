"""Kernel families for CPUs. Importing this package registers them."""

from tesa.schedules.cpu import block as block
from tesa.schedules.cpu import indexed as indexed
