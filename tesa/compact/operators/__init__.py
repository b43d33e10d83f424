"""The ties of ONNX operators, one file for each family; every file in this folder registers its own."""

from tesa.base.discover import import_all

import_all(__name__, __path__)
