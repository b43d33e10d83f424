"""Kernel families for GPUs. Importing this package registers them: each of its files that is there."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
