"""Packages whose files register themselves: a new file in the folder is all that one more of a kind takes."""

import importlib
import pkgutil
from collections.abc import Iterable


def import_all(package: str, folders: Iterable[str]) -> None:
    """Import every module of a package. package: its __name__; folders: its __path__."""
    for module in pkgutil.iter_modules(folders):
        importlib.import_module(f"{package}.{module.name}")
