"""model.json, the description that lies beside every compiled model: written by the compiler, read by `load`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tesa.base.told import identifier, parsed, shown, whole
from tesa.base.typed import typed
from tesa.choose.plan import Plan
from tesa.errors import ModelError
from tesa.runtime.tensors import numpy_dtype

FORMAT = 3
"""Version of model.json; a reader refuses what is newer."""

_SEVERAL_SIZES = 2

_ONE_SIZE = 1
"""The format of a model of one size, which older readers know."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, shape and NumPy dtype name of an input or output.

    limits: of an input that is an index, the least and the largest number that the model's tables have a row for, by
    which it is drawn; bounds: the same of one that goes to a table as it is, where it may count from the end, too, for
    all elements or for each place of the last axis.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    limits: tuple[int, int] | None = None
    bounds: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class SizeInfo:
    """One size of a model: the function that computes it, its inputs and outputs, and the plan it was made by.

    dims: the sizes of the dimensions that were named for it.

    >>> str(SizeInfo("main", (TensorInfo("ids", (1, 16), "int64"),), (), Plan("x86", 1, ()), {"tokens": 16}))
    'tokens=16'
    """

    function: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    plan: Plan
    dims: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.dims:
            return ", ".join(f"{name}={size}" for name, size in self.dims.items())
        return ", ".join(f"{info.name}={','.join(map(str, info.shape))}" for info in self.inputs)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for json.dump."""
        return {
            "function": self.function,
            "dims": dict(self.dims),
            "inputs": [_row(info) for info in self.inputs],
            "outputs": [_row(info) for info in self.outputs],
            "plan": self.plan.to_json(),
        }


@dataclass(frozen=True)
class Padding:
    """A dimension along which inputs may be shorter than a size: zeros are put behind them, and outputs are cut.

    inputs, outputs: the axes of that dimension, by the name of the tensor.
    """

    dim: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Manifest:
    """The content of model.json, which lies beside model.so: the sizes that it takes, each with its plan.

    needs: the instruction sets that code for its target may hold, by LLVM's names. digest: of the model and all that is
    said of it here; the library has the same. library: of a model that needs no runtime, what its file is: its format
    ("so", "o", "wasm"), the name that its C functions begin with, the bytes of an arena and to what it is aligned, and
    the function for each size. Such a model is of the newest format, for only what knows that can run it.
    """

    sizes: tuple[SizeInfo, ...]
    versions: Mapping[str, str]
    padding: tuple[Padding, ...] = ()
    needs: tuple[str, ...] = ()
    digest: str = ""
    library: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The plan of the first size."""
        return self.sizes[0].plan

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for json.dump. A model of one size has its plan beside its inputs."""
        several = len(self.sizes) > 1 or self.padding
        first = self.sizes[0].to_json()
        padding = [
            {"dim": item.dim, **{side: {n: list(a) for n, a in getattr(item, side).items()} for side in _SIDES}}
            for item in self.padding
        ]
        return {
            "format": FORMAT if self.library else _SEVERAL_SIZES if several else _ONE_SIZE,
            "inputs": first["inputs"],
            "outputs": first["outputs"],
            "versions": dict(self.versions),
            "needs": list(self.needs),
            **({"digest": self.digest} if self.digest else {}),
            **({"sizes": [size.to_json() for size in self.sizes], "padding": padding} if several else {}),
            **({"library": dict(self.library)} if self.library else {}),
            **({} if several else {"plan": first["plan"]}),
        }


_SIDES = ("inputs", "outputs")
_LARGEST = 1 << 28  # bytes of model.json
_LARGEST_ARENA = 1 << 48
_MOST_ELEMENTS = 1 << 48


def loadable(path: Path) -> str:
    """A path as the system's loader takes it: a bare name would be looked for among the system's libraries.

    >>> loadable(Path("model.so")), loadable(Path("out/model.so"))
    ('./model.so', 'out/model.so')
    """
    return f"./{path}" if len(path.parts) == 1 else str(path)


def sizes_in(data: Mapping[str, Any]) -> tuple[SizeInfo, ...]:
    """The sizes in the content of model.json. KeyError, TypeError or ValueError where it is no such thing."""
    rows = data.get("sizes") or [{"function": "main", "dims": {}, "inputs": (), "outputs": (), **data}]
    if not isinstance(rows, list):
        raise ValueError("its sizes are no list")
    return tuple(
        SizeInfo(
            identifier(row["function"], "a function"), _infos(row["inputs"]), _infos(row["outputs"]),
            Plan.from_json(row["plan"]), typed(dict[str, int], row["dims"], "dims"),
        )
        for row in rows
    )  # fmt: skip


def read_manifest(path: Path) -> Manifest:
    """Read model.json. ModelError where it is missing, broken or of a newer format."""
    try:
        data = parsed(path.read_bytes(), _LARGEST)
        if not isinstance(data, dict):
            raise ValueError("no object")
        if "tesa_kernel" in data:
            library = path.with_suffix(".so")
            raise ModelError(
                f"{library}: is a single kernel, not a model; call it: "
                f'tvm_ffi.load_module("{loadable(library)}")["entry"](*arrays, y), {path} says which'
            )
        if data["format"] > FORMAT:
            raise ModelError(f"{path}: format {data['format']} is newer than this tesa reads ({FORMAT}); update tesa")
        _infos(data["inputs"])
        return Manifest(
            sizes_in(data),
            typed(dict[str, str], data["versions"], "versions"),
            typed(tuple[Padding, ...], data.get("padding", ()), "padding"),
            typed(tuple[str, ...], data.get("needs", ()), "needs"),
            typed(str, data.get("digest", ""), "digest"),
            _library(data.get("library", {})),
        )
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); it is written beside the library") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: is not the description of a compiled model ({error})") from error


def _library(row: Any) -> dict[str, Any]:
    """The kind of a file that needs no runtime. ValueError where something is missing, or of another kind."""
    if row == {}:
        return {}
    kinds = {"format": str, "name": str, "arena": int, "alignment": int, "functions": list}
    for key, kind in kinds.items():
        if not isinstance(row, dict) or not isinstance(row.get(key), kind):
            raise ValueError(f"its library has no {key}")
    identifier(row["name"], "a model")
    for number in (row["arena"], row["alignment"]):
        whole(number, "a size of its library", 0, _LARGEST_ARENA)
    for function in row["functions"]:
        identifier(function, "a function")
    return dict(row)


def _row(info: TensorInfo) -> dict[str, Any]:
    return {key: value for key, value in vars(info).items() if value is not None}


def _infos(rows: Any) -> tuple[TensorInfo, ...]:
    infos = typed(tuple[TensorInfo, ...], rows, "tensors")
    for info in infos:
        numpy_dtype(info.dtype)
        if any(extent < 0 for extent in info.shape) or math.prod(info.shape) > _MOST_ELEMENTS:
            raise ValueError(f"{info.name} has the shape {shown(info.shape)}")
    return infos
