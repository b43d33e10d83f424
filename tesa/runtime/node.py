"""The engine that runs a model without a runtime, a module of WebAssembly, in Node.js."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tesa.base.scratch import Scratch
from tesa.base.told import milliseconds
from tesa.base.wasm_sections import changed
from tesa.errors import ModelError
from tesa.measure.node.runner import node_device
from tesa.measure.node.session import Ended, Place, Refused, Session
from tesa.measure.timing import calls_per_slice
from tesa.runtime.inputs import Array
from tesa.runtime.interfaces import Compiled
from tesa.runtime.manifest import SizeInfo, TensorInfo
from tesa.runtime.pair import check_same
from tesa.runtime.tensors import numpy_dtype
from tesa.targets.target import parse_target

_LIMIT_S = 600.0
_MOST_CALLS = 10_000
_ARENA = "_arena_bytes"


class NodeEngine:
    """An Engine (tesa.runtime.interfaces) in a process of Node.js, which lasts until close().

    Raises UsageError where there is no Node.js, ModelError for a file that is no model of this kind.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._path, self._manifest = compiled.path, compiled.manifest
        self._folder = Scratch()
        self._session = Session(parse_target(compiled.manifest.plan.target).features)
        self._modules: dict[str, int] = {}
        try:
            self._name, self._arena = self._opened()
        except BaseException:
            self.close()
            raise

    def run(self, function: str, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of one call, in their order."""
        module, size = self._ready(function, inputs)
        status = self._ask("call", id=module)["status"]
        if status:
            said = self._ask("ask", id=module, symbol=f"{self._name}_error", args=[status])["text"]
            raise ModelError(f"{self._path}: {said}")
        return [self._read(module, len(inputs) + i, info) for i, info in enumerate(size.outputs)]

    def time(self, function: str, inputs: Sequence[Array], rounds: int) -> list[float]:
        """Milliseconds of one call, a sample for each round."""
        module, _ = self._ready(function, inputs)
        self.run(function, inputs)

        def sample(calls: int) -> float:
            return milliseconds(self._ask("time", id=module, calls=calls, other=0).get("mean"), "Node.js")

        calls = calls_per_slice(min(sample(1), sample(3)), 1, _MOST_CALLS)
        return [sample(calls) for _ in range(rounds)]

    def device(self) -> dict[str, Any]:
        """This machine's Node.js, as records name it."""
        return node_device()

    def close(self) -> None:
        """End the process."""
        self._session.close()
        self._folder.cleanup()

    def _opened(self) -> tuple[str, int]:
        """The prefix of the names of the module's functions, and the bytes of its arena."""
        if changed(self._path.read_bytes()):
            raise ModelError(
                f"{self._path}: cannot be loaded as WebAssembly: its checksum is of another file, it was changed or "
                "cut off; copy it again, or compile the model again"
            )
        try:
            module = self._session.load(self._path, "", [], _LIMIT_S)
        except Refused as error:
            raise ModelError(
                f"{self._path}: cannot be loaded as WebAssembly: {error}; compile the model again, or take "
                "--target wasm32:simd128, which every engine of today runs"
            ) from error
        except Ended as error:
            raise ModelError(f"{self._path}: {error}") from error
        names = self._ask("exports", id=module)["names"]
        found = [name.removesuffix(_ARENA) for name in names if name.endswith(_ARENA)]
        if not found:
            raise ModelError(f"{self._path}: is no model; compile one with `tesa compile model.onnx -o {self._path}`")
        name = found[0]
        check_same(self._ask("ask", id=module, symbol=f"{name}_digest", args=[])["text"], self._path, self._manifest)
        return name, int(self._ask("ask", id=module, symbol=f"{name}{_ARENA}", args=[])["value"])

    def _ready(self, function: str, inputs: Sequence[Array]) -> tuple[int, SizeInfo]:
        """The module of a function with its inputs in place, and the size that it is for."""
        number, size = next((i, size) for i, size in enumerate(self._manifest.sizes) if size.function == function)
        if function not in self._modules:
            symbol = f"{self._name}_run{f'_{number}' if number else ''}"
            places = [Place(_bytes(info)) for info in (*size.inputs, *size.outputs)]
            try:
                self._modules[function] = self._session.load(
                    self._path, symbol, [*places, Place(self._arena)], _LIMIT_S
                )
            except (Refused, Ended) as error:
                raise ModelError(f"{self._path}: cannot be loaded: {error}") from error
        module, file = self._modules[function], Path(self._folder.name) / "array"
        for index, array in enumerate(inputs):
            np.ascontiguousarray(array).tofile(file)
            self._ask("write", id=module, index=index, file=str(file))
        return module, size

    def _read(self, module: int, index: int, info: TensorInfo) -> Array:
        file = Path(self._folder.name) / "array"
        self._ask("read", id=module, index=index, file=str(file))
        found: Array = np.fromfile(file, numpy_dtype(info.dtype)).reshape(info.shape)
        return found

    def _ask(self, verb: str, **words: object) -> dict[str, Any]:
        try:
            return self._session.ask({"do": verb, **words}, _LIMIT_S)
        except (Refused, Ended) as error:
            raise ModelError(f"{self._path}: failed in Node.js: {error}") from error


def _bytes(info: TensorInfo) -> int:
    return int(np.prod(info.shape)) * numpy_dtype(info.dtype).itemsize
