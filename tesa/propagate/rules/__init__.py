"""The rules that come with tesa, one file for each family of operators; every file in this folder registers its own."""

from tesa.base.discover import import_all

import_all(__name__, __path__)
