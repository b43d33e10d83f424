"""Rearranges the channels of a whole network, so that pruning groups of them keeps more; its outputs stay."""

from tesa.compress.rearrange.gains import Arranged, Gain
from tesa.compress.rearrange.run import arrange, rearrange

__all__ = ["Arranged", "Gain", "arrange", "rearrange"]
