"""Changes between two versions of an operator, one file for each kind of change; every file registers its own."""

from tesa.base.discover import import_all

import_all(__name__, __path__)
