"""Runs a network from one layer to the next on all samples: as it was, and as it is now, side by side.

Between two layers only the tensors are kept that something later reads. Both networks are the same up to the first
layer that was changed, and are computed once there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from tesa.base.onnxruntime import onnxruntime_session
from tesa.compress.samples import Samples
from tesa.compress.shelf import LIMIT, Shelf
from tesa.compress.tensors import Tensors
from tesa.errors import UsageError
from tesa.frontend.control.inside import graphs_of

DENSE, NOW = 0, 1


class Walk:
    """A position in a graph, and the tensors there. view: the ModelProto; tensors: its numbers as they are now.

    dense: the numbers that tensors had before, by name, of those that were changed.
    """

    def __init__(self, view: Any, tensors: Tensors, samples: Samples, *, threads: int = 1, memory: int = LIMIT) -> None:
        self.view, self.tensors, self.samples, self.threads = view, tensors, samples, threads
        self.dense: dict[str, NDArray[Any]] = {}
        self.nodes = list(view.graph.node)
        self.at = 0
        self.last = _last_uses(view.graph)
        self.shelf = Shelf(memory)
        self.differs: set[str] = set()
        self.live: set[str] = set(samples.feeds[0])
        for number, feeds in enumerate(samples.feeds):
            for name, array in feeds.items():
                self.shelf.put((name, number, DENSE), np.asarray(array))

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        self.shelf.__exit__(None, None, None)

    def changed(self, name: str, before: NDArray[Any]) -> None:
        """Note that a tensor has other numbers now. before: those of the dense network."""
        self.dense.setdefault(name, before)

    def advance(self, at: int) -> None:
        """Compute what the nodes before the one at this place make."""
        nodes = [
            node
            for node in self.nodes[self.at : at]
            if node.op_type != "Constant" or node.output[0] not in self.tensors
        ]
        self.at = max(self.at, at)
        made = {name for node in nodes for name in node.output if name}
        reads = {name for node in nodes for name in reads_of(node)} - made
        feeds = sorted(name for name in reads if name in self.live)
        wanted = sorted(name for name in made if self.last.get(name, -1) >= self.at)
        self._check(reads)
        if nodes and wanted:
            differ = any(name in self.dense for name in reads) or bool(self.differs & set(feeds))
            for which in (DENSE, NOW) if differ else (DENSE,):
                self._run(nodes, feeds, wanted, which)
            self.live |= set(wanted)
            self.differs |= set(wanted) if differ else set()
        for name in [name for name in self.live if self.last.get(name, -1) < self.at]:
            self.live.discard(name)
            self.differs.discard(name)
            for number in range(len(self.samples.feeds)):
                for which in (DENSE, NOW):
                    self.shelf.drop((name, number, which))

    def pairs(self, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """(as it was, as it is now) of an activation, batch by batch."""
        for number in range(len(self.samples.feeds)):
            dense = self.shelf.get((name, number, DENSE))
            yield dense, self.shelf.get((name, number, NOW)) if name in self.differs else dense

    def _check(self, reads: set[str]) -> None:
        for name in reads:
            if name and name not in self.live and name not in self.tensors:
                raise UsageError(f"the network cannot be run layer by layer: {name!r} is read before it is computed")

    def _run(self, nodes: list[Any], feeds: list[str], wanted: list[str], which: int) -> None:
        first = {name: self._input(name, 0, which) for name in feeds}
        session = onnxruntime_session(
            self._model(nodes, first, wanted, which).SerializeToString(), self.threads, name="a part of the network"
        )
        for number in range(len(self.samples.feeds)):
            given = {name: self._input(name, number, which) for name in feeds}
            try:
                found = session.run(wanted, given)
            except Exception as error:
                line = str(error).strip().splitlines()[0]
                raise UsageError(f"onnxruntime cannot compute with the calibration data: {line}") from error
            for name, array in zip(wanted, found, strict=True):
                self.shelf.put((name, number, which), np.asarray(array))

    def _input(self, name: str, number: int, which: int) -> NDArray[Any]:
        now = which == NOW and name in self.differs
        return self.shelf.get((name, number, NOW if now else DENSE))

    def _model(self, nodes: list[Any], feeds: Mapping[str, NDArray[Any]], wanted: list[str], which: int) -> ModelProto:
        """The nodes as a model of their own."""
        model = ModelProto(ir_version=max(8, self.view.ir_version), opset_import=self.view.opset_import)
        model.graph.name = "part"
        model.graph.node.extend(nodes)
        for name, array in feeds.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, kind, None))
        for name in wanted:
            model.graph.output.add().name = name
        for name in sorted({name for node in nodes for name in reads_of(node)}):
            if name in self.tensors and name not in feeds:
                now = self.tensors.get(name)
                assert now is not None
                array = self.dense.get(name, now) if which == DENSE else now
                model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return model


def reads_of(node: Any) -> set[str]:
    """The tensors that a node reads: its inputs, and what the graphs in it read from around them."""
    found = {name for name in node.input if name}
    for graph in graphs_of(node):
        inner = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        for one in graph.node:
            found |= reads_of(one) - inner
            inner |= set(one.output)
        found |= {value.name for value in graph.output} - inner
    return found


def _last_uses(graph: Any) -> dict[str, int]:
    """For each tensor the place of the last node that reads it."""
    last: dict[str, int] = {}
    for at, node in enumerate(graph.node):
        for name in reads_of(node):
            last[name] = at
    return last
