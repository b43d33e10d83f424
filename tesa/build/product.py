"""Built kernels: object files that are linked, or a function inside the module that calls it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tesa.build.footprint import Footprint
from tesa.schedules.types import Code

OBJECTS, FUNCTION = "objects", "function"

PRODUCTS = {"cpu": OBJECTS, "gpu": FUNCTION}
"""Kind of machine -> how a compiled model gets its kernels. A GPU's need the module's compiler: it launches them."""


@dataclass(frozen=True)
class Product:
    """A built kernel, called as symbol(X, *constants, bias if any, residual if any, Y).

    objects: object files to link, main's first. function: main as a function of TVM, which is compiled along with the
    module that calls it; objects are then those of the functions that it calls by symbol. code: the digest of what was
    emitted, see digest.py; "" where nobody records it. footprint: the bytes that it takes.
    """

    symbol: str
    objects: tuple[Path, ...]
    constants: tuple[NDArray[Any], ...] = ()
    function: Any = None
    code: str = ""
    footprint: Footprint = field(default_factory=Footprint)

    def inside(self, code: Code) -> Product:
        """The same kernel with main as a function. code: what it was built from."""
        return replace(self, objects=self.objects[1:], function=code.main)
