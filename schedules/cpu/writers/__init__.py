"""Writers of straight-line panels, one file each; importing this package registers all of them."""

import importlib
import pkgutil

from tesa.schedules.cpu.writers.registry import MAX_BYTES, find_dot_writer, find_writer, registers

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["MAX_BYTES", "find_dot_writer", "find_writer", "registers"]
