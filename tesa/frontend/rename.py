"""Gives every binding of a module a unique name that says its layer."""

from collections.abc import Mapping
from typing import Any

from tvm import relax

from tesa.frontend.names import Unique, identifier

HEAVY = ("conv1d", "conv2d", "conv2d_transpose", "matmul")


def name_bindings(mod: Any, layers: Mapping[str, str], last: str) -> tuple[Any, dict[str, str], dict[str, str]]:
    """Rename all bindings: (module, layer of each variable, its old name).

    layers: the layers of variables, as far as they are known; last: the layer of what comes after all of them.

    A variable that a pass has made belongs to the layer of the next one that is known, or to the layer `last`. Several
    operators of one layer are called `layer`, `layer_add`: the convolution or matmul keeps the plain name, otherwise
    the last one does. Each name is unique in the whole module, whose loops are functions of their own.
    """
    unique = Unique(param.name for param in mod["main"].params)
    mod = mod.clone() if hasattr(mod, "clone") else mod
    owners: dict[str, str] = {}
    old: dict[str, str] = {}
    functions = [(var, f) for var, f in mod.functions_items() if isinstance(f, relax.Function)]
    for var, func in sorted(functions, key=lambda pair: (pair[0].name_hint != "main", pair[0].name_hint)):
        main = var.name_hint == "main"
        owner = _owners(func, layers, last if main else var.name_hint)
        names = _names(func, owner, unique)
        if not main:
            names |= {param: unique(f"{var.name_hint}_{param.name}") for param in func.params}
        mod[var] = Renamer(names).visit_expr(func)
        owners |= {name: owner.get(variable, var.name_hint) for variable, name in names.items()}
        old |= {name: variable.name for variable, name in names.items()}
    return mod, owners, old


def _owners(func: Any, layers: Mapping[str, str], last: str) -> dict[Any, str]:
    """The layer of each binding of a function."""
    owner, layer = {}, last
    for binding in reversed([binding for block in func.body.blocks for binding in block.bindings]):
        layer = layers.get(binding.var.name, layer)
        owner[binding.var] = layer
    return owner


def _names(func: Any, owner: Mapping[Any, str], unique: Unique) -> dict[Any, str]:
    """The new name of each binding of a function."""
    order = [binding for block in func.body.blocks for binding in block.bindings]
    main: dict[str, Any] = {}
    for binding in order:
        if _kind(main.get(owner[binding.var])) not in HEAVY:
            main[owner[binding.var]] = binding.value
    names: dict[Any, str] = {}
    for binding in order:
        home = owner[binding.var]
        plain = identifier(home)
        works = binding.value is main[home] or binding.value.same_as(main[home])
        names[binding.var] = unique(plain if works else f"{plain}_{_kind(binding.value)}")
    return names


def _kind(value: Any) -> str:
    name = getattr(getattr(value, "op", None), "name", "") or type(value).__name__
    return identifier(name.removeprefix("relax.").removeprefix("nn.").lower())


@relax.expr_functor.mutator
class Renamer(relax.PyExprMutator):  # type: ignore[misc]
    """Gives the variables of a function the names that a table has for them."""

    def __init__(self, names: Mapping[Any, str]) -> None:
        super().__init__()
        self._names = names

    def visit_var_def_(self, var: Any) -> Any:
        return self._fresh(var, relax.Var)

    def visit_dataflow_var_def_(self, var: Any) -> Any:
        return self._fresh(var, relax.DataflowVar)

    def _fresh(self, var: Any, kind: Any) -> Any:
        if var not in self._names:
            return var
        new = kind(self._names[var], var.ty)
        self.set_var_remap(var, new)
        return new
