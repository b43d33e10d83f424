"""Kernel families for CPUs. Importing this package registers them."""

from tesa.schedules.cpu import block as block
from tesa.schedules.cpu import decomposed as decomposed
from tesa.schedules.cpu import depthwise as depthwise
from tesa.schedules.cpu import indexed as indexed
from tesa.schedules.cpu import rowlanes as rowlanes
from tesa.schedules.cpu import sliced as sliced
from tesa.schedules.cpu import unrolled as unrolled
from tesa.schedules.cpu import vector as vector
