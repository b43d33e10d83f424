"""The weight that a mask is for: by the names of the file, of tesa's layers, or of torch's modules.

An exporter may fold the name of a weight away: torch's Linear `fc1` without a name is the MatMul node /fc1/MatMul whose
weight is called onnx::MatMul_123 and is stored transposed. Its node still has the name of the module. A name stands for
one weight or for none: what is only like it is never taken.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tesa.errors import UsageError
from tesa.frontend.cells import Part, cell_parts, parts_of
from tesa.frontend.graph import Graph, attributes
from tesa.frontend.names import did_you_mean
from tesa.frontend.rewrite import CARRIERS, WEIGHT_OPS, weight_position

WRAPPERS = re.compile(r"(?:^module\.)|(?:\b_orig_mod\.)")
"""The names by which torch's DataParallel and torch.compile wrap a model."""

NUMBERED = re.compile(r"_\d+$")


@dataclass(frozen=True)
class Target:
    """A weight of the file. turned: the file has it transposed, seen from torch. module: found by a node's name.

    parts: of a layer of a recurrent cell, the parts of the weight that its name may mean.
    """

    initializer: str
    turned: bool = False
    module: bool = False
    parts: tuple[Part, ...] = ()


class MaskNames:
    """The names that a mask may have in a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.bare = {bare(name): name for name in graph.constants if bare(name) != name}
        self.layers: dict[str, Target] = {}
        self.modules: dict[str, dict[Target, str]] = {}
        makers = {name: node for node in graph.nodes for name in node.output}
        self.cells = cell_parts(graph)
        for layer, parts in self.cells.items():
            self.layers[layer] = Target(parts[0].initializer, parts=parts)
        for node in graph.nodes:
            position = weight_position(graph, makers, node)
            found = None if position is None else _weight(graph, makers, node, position)
            if found is None:
                continue
            if node.op_type in WEIGHT_OPS:
                self.layers.setdefault(graph.layers[node.output[0]], found)
            for module in modules_of(node.name, node.op_type):
                self.modules.setdefault(module, {}).setdefault(found, node.name)

    def find(self, name: str) -> Target:
        """The weight of that name. UsageError where there is none, or where several nodes have it."""
        for candidate in candidates(name):
            module = candidate.removesuffix(".weight")
            found = self.modules.get(module, {})
            if candidate in self.graph.constants:
                return Target(candidate)
            if candidate in self.bare:
                return Target(self.bare[candidate])
            if candidate in self.layers or module in self.layers:
                return self.layers.get(candidate) or self.layers[module]
            if len(found) > 1:
                nodes = ", ".join(f"{node!r} ({target.initializer})" for target, node in found.items())
                raise UsageError(
                    f"{self.graph.source}: mask {name!r} may be for the weights of {len(found)} nodes: {nodes}. "
                    "Give it the name of one weight"
                )
            if found:
                return next(iter(found))
            if parts := parts_of(self.cells, candidate):
                return Target(parts[0].initializer, parts=parts)
        raise UsageError(
            f"{self.graph.source}: mask {name!r} matches no weight and no layer of the model. {self._near(name)}"
        )

    def _near(self, name: str) -> str:
        known = [*(n for n, a in self.graph.constants.items() if a.ndim > 1), *self.layers]
        listed = f"Its layers: {', '.join(list(self.layers)[:8])}{', ...' if len(self.layers) > 8 else ''}"
        return did_you_mean(name, known) or listed


def candidates(name: str) -> Iterable[str]:
    """The names that a mask of this name may mean, the most literal first.

    >>> list(candidates("module.fc1.weight_mask"))
    ['module.fc1.weight_mask', 'module.fc1.weight', 'fc1.weight_mask', 'fc1.weight']
    """
    whole = [name, name.removesuffix("_mask")]
    ending = [] if name.endswith((".weight", ".weight_mask")) else [f"{bare(name)}.weight"]
    return dict.fromkeys([*whole, *map(bare, whole), *ending])


def bare(name: str) -> str:
    """A name without the wrappers of torch.

    >>> bare("module._orig_mod.fc1.weight")
    'fc1.weight'
    """
    while WRAPPERS.search(name):
        name = WRAPPERS.sub("", name)
    return name


def modules_of(node: str, operator: str) -> list[str]:
    """The names of the torch module that a node of this name may come from.

    >>> modules_of("/encoder/layers.0/fc1/MatMul_1", "MatMul")
    ['encoder.layers.0.fc1']
    >>> modules_of("/net/net.0/Gemm", "Gemm")
    ['net.net.0', 'net.0']
    """
    *path, last = node.strip("/").split("/")
    last = NUMBERED.sub("", last.removesuffix("_quant"))  # onnxruntime's quantizer puts that behind
    if not path or not node.startswith("/") or last != operator.removesuffix("Integer"):
        return []
    short: list[str] = []  # a child of a Sequential has the name of its parent in front of its own
    for step in path:
        if short and step.startswith(f"{short[-1]}."):
            short.pop()
        short.append(step)
    return list(dict.fromkeys([bare(".".join(path)), bare(".".join(short))]))


def _weight(graph: Graph, makers: Mapping[str, Any], node: Any, position: int) -> Target | None:
    """The constant that a node reads as its weight through what only carries it; None where it is computed."""
    # torch has the outputs first; a Gemm says whether the file has them so, a product x W has them last
    turned = node.op_type in ("MatMul", "MatMulInteger") and position == 1
    if node.op_type == "Gemm":
        turned = not attributes(node).get("transB" if position else "transA", 0) if position else False
    name = node.input[position]
    while name not in graph.constants:
        maker = makers.get(name)
        if maker is None or maker.op_type not in CARRIERS:
            return None
        if maker.op_type == "Transpose" and list(attributes(maker).get("perm", (1, 0))) == [1, 0]:
            turned = not turned
        name = maker.input[0]
    return Target(name, turned, module=True)
