"""Targets: what code is generated for, by the names that users write. Importing the package imports all its files."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
