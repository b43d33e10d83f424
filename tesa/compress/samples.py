"""Calibration data: what a model is run on to see the numbers that it computes with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from tesa.base.npz import read_npz
from tesa.base.onnxruntime import onnxruntime_session
from tesa.errors import UsageError

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Data = str | Path | Arrays
"""The path of an .npz file, or arrays by name."""

CHUNK = 32
"""Samples that a model with an open first axis is run on at once."""


@dataclass(frozen=True)
class Samples:
    """Calibration data cut into what single runs of a model take.

    feeds: the inputs of each run. extra: the arrays that are no inputs, such as labels. count: of samples, along the
    first axis of the arrays. name: of the data in messages.
    """

    feeds: tuple[Arrays, ...]
    extra: Arrays
    count: int
    name: str

    @staticmethod
    def of(model: Any, data: Data, *, limit: int | None = None, extra: bool = False) -> Samples:
        """Read and check data for a model (a ModelProto): each input is an array whose first axis counts the samples.

        Of an input with as many axes as the array the first one is the batch: a fixed batch takes so many samples a
        run, an open one up to CHUNK. Where the array has one axis more, each of its elements is a run. An array without
        axes is the same in every run. limit: take only so many samples. extra: arrays that are no inputs may be there.

        Raises UsageError, naming array and sample: missing or unknown arrays, other shapes or types, NaN or infinity.

        >>> from onnx import parser
        >>> graph = '<ir_version: 8, opset_import: ["": 17]> g (float[1, 3] x) => (float[1, 3] y) { y = Relu(x) }'
        >>> found = Samples.of(parser.parse_model(graph), {"x": np.ones((5, 3), np.float32)})
        >>> found.count, len(found.feeds), found.feeds[0]["x"].shape
        (5, 5, (1, 3))
        """
        name = str(data) if isinstance(data, str | Path) else "the data"
        arrays = dict(read_npz(data)) if isinstance(data, str | Path) else {k: np.asarray(v) for k, v in data.items()}
        inputs = inputs_of(model)
        _check_names(name, arrays, inputs, extra)
        ready = {port.name: _typed(name, port, arrays[port.name]) for port in inputs}
        cuts = {port.name: _cut(name, port, ready[port.name], limit) for port in inputs}
        runs = {key: len(parts) for key, parts in cuts.items() if parts is not None}
        if not runs:
            raise UsageError(f"{name}: no array has samples along its first axis; stack several of them")
        if len(set(runs.values())) > 1:
            told = ", ".join(f"{key!r} of {ready[key].shape}" for key in runs)
            raise UsageError(f"{name}: the arrays have different numbers of samples: {told}; give as many of each")
        (number,) = set(runs.values())
        if not number:
            raise UsageError(f"{name}: there are no samples in it; give at least one, better a hundred")
        feeds = tuple(
            {key: ready[key] if parts is None else parts[i] for key, parts in cuts.items()} for i in range(number)
        )
        counted = next(key for key in runs)
        count = len(ready[counted]) if limit is None else min(limit, len(ready[counted]))
        rest = {key: value for key, value in arrays.items() if key not in cuts}
        for key, value in rest.items():
            if value.ndim and len(value) == len(ready[counted]):
                rest[key] = value[:count]
        return Samples(feeds, rest, count, name)

    def run(self, model: Any, outputs: Sequence[str] = (), *, threads: int = 1, name: str = "the model") -> Outputs:
        """The outputs of a ModelProto on all samples with onnxruntime, by name; outputs: inner tensors instead."""
        return joined(list(self.each(model, outputs, threads=threads, name=name)), self.count)

    def each(
        self, model: Any, outputs: Sequence[str] = (), *, threads: int = 1, name: str = "the model"
    ) -> Iterator[dict[str, Array]]:
        """The outputs of each run in turn, as run() has them together."""
        proto = model
        if outputs:
            proto = type(model)()
            proto.CopyFrom(model)
            del proto.graph.output[:]
            proto.graph.output.extend(helper.make_empty_tensor_value_info(tensor) for tensor in outputs)
        session = onnxruntime_session(proto.SerializeToString(), threads, optimize="basic", name=name)
        names = [output.name for output in session.get_outputs()]
        wanted = {port.name for port in session.get_inputs()}
        for feed in self.feeds:
            try:
                found = session.run(names, {key: value for key, value in feed.items() if key in wanted})
            except Exception as error:
                line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise UsageError(f"{name} cannot be run on {self.name}: {line.rpartition(' : ')[2]}") from error
            yield dict(zip(names, found, strict=True))

    def through(self, call: Callable[[Arrays], Mapping[str, Array]]) -> Outputs:
        """The outputs of a function of the inputs of one run, on all samples."""
        return joined([dict(call(feed)) for feed in self.feeds], self.count)


Outputs = dict[str, Array]
"""Outputs of all runs by name, one behind the other along the first axis where that is one of samples."""


def joined(rows: Sequence[Mapping[str, Array]], count: int) -> Outputs:
    """The outputs of all runs along the first axis; where that gives no row for each sample, stacked on a new one."""
    found: Outputs = {}
    for key in rows[0]:
        parts = [np.asarray(row[key]) for row in rows]
        if parts[0].ndim and sum(len(part) for part in parts) == count:
            found[key] = np.concatenate(parts)
        elif len({part.shape for part in parts}) == 1:
            found[key] = np.stack(parts)
        else:  # of open sizes: all their elements
            found[key] = np.concatenate([part.reshape(-1) for part in parts])
    return found


def relative_error(found: Outputs, wanted: Outputs) -> float:
    """The relative error of outputs: the norm of the difference by that of what is wanted, of the worst output.

    Infinite where an output is not finite. Outputs of integers count by the share of elements that differ.

    >>> relative_error({"y": np.array([3.0, 4.5])}, {"y": np.array([3.0, 4.0])})
    0.1
    """
    worst = 0.0
    for name, right in wanted.items():
        mine = found[name]
        if not np.issubdtype(right.dtype, np.floating):
            worst = max(worst, float(np.mean(mine != right)) if right.size else 0.0)
            continue
        if not np.isfinite(mine).all():
            return float("inf")
        norm = float(np.linalg.norm(right.astype(np.float64)))
        distance = float(np.linalg.norm(mine.astype(np.float64) - right))
        worst = max(worst, distance / norm if norm else float(distance > 0))
    return worst


@dataclass(frozen=True)
class _Port:
    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: np.dtype[Any]


def inputs_of(model: Any) -> tuple[_Port, ...]:
    """The inputs of a ModelProto that are no constants: name, shape (None for an open size) and dtype."""
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        dims = None
        if kind.HasField("shape"):
            dims = tuple(d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in kind.shape.dim)
        found.append(_Port(value.name, dims, np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))))
    return tuple(found)


def _check_names(name: str, arrays: Arrays, inputs: Sequence[_Port], extra: bool) -> None:
    wanted = [port.name for port in inputs]
    missing = [key for key in wanted if key not in arrays]
    surplus = [key for key in arrays if key not in wanted]
    if not missing and (extra or not surplus):
        return
    what = f"lacks {', '.join(map(repr, missing))}" if missing else f"has {', '.join(map(repr, surplus))}"
    near = [close[0] for key in missing for close in [get_close_matches(key, surplus, n=1)] if close]
    hint = f" (is it {', '.join(map(repr, near))}?)" if near else ""
    raise UsageError(f"{name} {what}{hint}; the model's inputs are {', '.join(map(repr, wanted))}")


def _typed(name: str, port: _Port, array: Array) -> Array:
    """The array in the input's own type; refuses what is no number, and numbers that the type does not hold."""
    if not np.can_cast(array.dtype, port.dtype, "same_kind"):
        raise UsageError(f"{name}: {port.name!r} is {array.dtype}, the model takes {port.dtype}; convert it")
    if np.issubdtype(array.dtype, np.floating):
        bad = ~np.isfinite(array)
        if bad.any():
            place = int(np.argwhere(bad)[0][0]) if array.ndim else 0
            raise UsageError(
                f"{name}: {port.name!r} has NaN or infinity, first in sample {place}; leave such samples out"
            )
    return np.ascontiguousarray(array.astype(port.dtype, copy=False))


def _cut(name: str, port: _Port, array: Array, limit: int | None) -> list[Array] | None:
    """The array of each run; None where it is the same in all."""
    if not array.ndim and not port.shape:
        return None
    shape = port.shape if port.shape is not None else (None,) * array.ndim
    if array.ndim == len(shape) + 1 and _fits(shape, array.shape[1:]):
        return list(array[:limit])
    if not shape or array.ndim != len(shape) or not _fits(shape[1:], array.shape[1:]):
        text = "x".join("?" if not isinstance(size, int) else str(size) for size in shape)
        raise UsageError(
            f"{name}: {port.name!r} has the shape {array.shape}; the model takes {text}, so give samples of that shape "
            "along the first axis"
        )
    array = array[:limit]
    step = shape[0] if isinstance(shape[0], int) else CHUNK
    if isinstance(shape[0], int) and len(array) % step:
        whole = len(array) // step * step
        raise UsageError(
            f"{name}: {port.name!r} has {len(array)} samples, and the model takes {step} at once; give a multiple, "
            f"such as {whole or step}"
        )
    return [array[i : i + step] for i in range(0, len(array), step)]


def _fits(shape: Sequence[int | str | None], sizes: Sequence[int]) -> bool:
    return len(shape) == len(sizes) and all(not isinstance(a, int) or a == b for a, b in zip(shape, sizes, strict=True))
