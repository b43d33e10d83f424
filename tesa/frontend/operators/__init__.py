"""Converters of ONNX operators, one file for each family; every file in this folder registers its own.

TVM's converters for Clip, Gemm with a constant weight, padding "SAME", Gather, Pad, Tile, Einsum and others leave
chains of small operators, or anonymous functions, that hide what the operator was. Here Clip becomes relax.clip, a
constant transpose or bias is folded in NumPy, padding becomes an attribute of the convolution, out-of-range indices of
a Gather are clamped instead of read anywhere, and so on.
"""

from tesa.base.discover import import_all

import_all(__name__, __path__)
