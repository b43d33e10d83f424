"""Operators that are written out as simpler ONNX nodes, one file for each group; every file here registers its own."""

from tesa.base.discover import import_all

import_all(__name__, __path__)
