"""PropagateTeSA as a pass of TVM, for use in a tvm.transform.Sequential."""

from collections.abc import Mapping
from typing import Any

import tvm

from tesa.attributes.attribute import TeSA
from tesa.frontend.model import ImportedModel
from tesa.propagate.model import propagate


@tvm.transform.module_pass(opt_level=0, name="PropagateTeSA")
class PropagateTeSA:
    """Adds to "main" the attribute "tesa", a map from variable to what is known of it in words.

    The facts themselves are Python objects, which TVM's attributes cannot hold: they are in `results`, the TesaModel of
    each module the pass was run on, last one last. given: facts of the user by tensor, see `propagate`.
    """

    def __init__(self, given: Mapping[str, TeSA] | None = None) -> None:
        self.given = given
        self.results: list[Any] = []

    def transform_module(self, mod: Any, context: Any) -> Any:
        """Propagate over one module; TVM calls this."""
        names = {b.var.name: b.var.name for block in mod["main"].body.blocks for b in block.bindings}
        model = propagate(ImportedModel(mod, (), (), names, {}), given=self.given)
        self.results.append(model)
        return model.mod
