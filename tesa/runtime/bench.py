"""Times a compiled model, alone or interleaved with peers, so that a noisy machine hits all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tesa.base.display import Displayed
from tesa.base.hostinfo import usable_cpus
from tesa.base.onnxruntime import onnxruntime_call
from tesa.base.random_inputs import random_array
from tesa.build.footprint import Footprint
from tesa.errors import UsageError
from tesa.runtime.inputs import Array
from tesa.runtime.manifest import TensorInfo
from tesa.runtime.model import Model
from tesa.runtime.reference import read_reference
from tesa.runtime.remote import RemoteModel
from tesa.runtime.trace import trace


@dataclass(frozen=True)
class Times:
    """Milliseconds of one call over all rounds."""

    name: str
    median_ms: float
    min_ms: float
    iqr_ms: float
    p90_ms: float
    calls: int


@dataclass(frozen=True)
class LayerTime:
    """Median milliseconds of one kernel inside the running model."""

    layer: str
    symbol: str
    median_ms: float
    share: float


@dataclass(frozen=True)
class KernelBytes:
    """The bytes of the kernel of one layer; layers with one symbol share it."""

    layer: str
    symbol: str
    code: int
    values: int
    indices: int


@dataclass(frozen=True)
class BenchResult(Displayed):
    """Times of the model and its peers, and of its layers where they were asked for. threads: of all alike.

    kernels: what those of the layers take; footprint: all together; library: bytes of the file, 0 where it is not told.
    device: what ran the model, "" for this process; note: why its times are no CPU's, "" where they are.
    """

    model: Times
    peers: tuple[Times, ...]
    layers: tuple[LayerTime, ...]
    threads: int
    device: str = ""
    note: str = ""
    kernels: tuple[KernelBytes, ...] = ()
    footprint: Footprint = field(default_factory=Footprint)
    library: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for json.dump."""
        return asdict(self)


def bench(
    model: Model,
    *,
    repeat: int = 50,
    feeds: Mapping[str, Array] | None = None,
    seed: int = 0,
    peers: Sequence[str] = (),
    onnx: str | Path | None = None,
    threads: int | None = None,
    profile: bool = False,
) -> BenchResult:
    """Time the model over `repeat` rounds of a few milliseconds each.

    feeds: inputs, random ones of the first size by default. peers: "onnxruntime", which runs the file given as onnx
    with as many threads. Raises UsageError for an unknown peer or one that is not installed, and for peers and layers
    of a model that runs elsewhere.
    """
    if isinstance(model, RemoteModel):
        return _bench_there(model, repeat, feeds, seed, peers, profile)
    count = min(threads or model.plan.threads, usable_cpus())  # as many as load gave the model
    arrays = dict(feeds) if feeds is not None else random_feeds(model.inputs, seed)
    prepared = model.prepare(arrays)
    model = model.at(prepared.size)
    calls: dict[str, Callable[[], object]] = {"tesa": lambda: model.execute(prepared)}
    for peer in peers:
        if peer != "onnxruntime":
            raise UsageError(f"unknown peer {peer!r}; there is: onnxruntime")
        source = onnx_beside(model.path) if onnx is None else Path(onnx)
        read_reference(source, model)
        calls[peer] = onnxruntime_call(source, arrays, count)
    times = interleave(calls, repeat)
    layers = profile_layers(model, prepared, max(5, repeat // 2)) if profile else ()
    return weighed(BenchResult(times[0], tuple(times[1:]), layers, count), model)


def _bench_there(
    model: RemoteModel, repeat: int, feeds: Mapping[str, Array] | None, seed: int, peers: Sequence[str], profile: bool
) -> BenchResult:
    """The times of a model that an engine runs, by the clock that is there."""
    if peers or profile:
        raise UsageError(
            f"{'peers run' if peers else 'layers are timed'} in this process, and the model runs on "
            f"{model.device['cpu']}: leave {'--vs' if peers else '--profile'} out, or time it on the device itself"
        )
    prepared = model.prepare(dict(feeds) if feeds is not None else random_feeds(model.inputs, seed))
    times = _times("tesa", model.time(prepared, max(repeat, 3)), 1)
    device = model.device
    note = ""
    if device.get("emulated"):
        note = f"{device['cpu']}: these are times of an emulator, and say nothing of any CPU"
    return weighed(BenchResult(times, (), (), model.threads, str(device["cpu"]), note), model)


def weighed(result: BenchResult, model: Model | RemoteModel) -> BenchResult:
    """The result with the bytes of the model's kernels and of its library."""
    rows = tuple(
        KernelBytes(row.layer, row.symbol, row.footprint.code, row.footprint.values, row.footprint.indices)
        for row in model.plan.layers
        if row.kind == "sparse"
    )
    library = model.path.stat().st_size if model.path.is_file() else 0
    return replace(result, kernels=rows, footprint=model.plan.footprint, library=library)


def onnx_beside(library: Path) -> Path:
    """The ONNX file that lies beside a compiled model under the same name. UsageError if there is none."""
    beside = library.with_suffix(".onnx")
    if not beside.is_file():
        raise UsageError(
            f"onnxruntime needs the model that it runs: add --model model.onnx (there is no {beside} beside it)"
        )
    return beside


def random_feeds(infos: Sequence[TensorInfo], seed: int = 0) -> dict[str, Array]:
    """Inputs for a model: standard normal floats, ones for masks, else integers that every table has a row for."""
    rng = np.random.default_rng(seed)
    return {info.name: random_array(info.name, info.shape, info.dtype, rng, info.limits) for info in infos}


def interleave(calls: Mapping[str, Callable[[], object]], rounds: int, slice_ms: float = 3.0) -> list[Times]:
    """Time several functions in turn, a slice of about slice_ms each, `rounds` times over."""
    counts = {}
    for name, call in calls.items():
        call()
        once = min(_seconds(call, 1) for _ in range(3))
        counts[name] = max(1, int(slice_ms / 1e3 / max(once, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(max(rounds, 3)):
        for name, call in calls.items():
            call()  # its code and weights are back in the caches before the clock starts
            samples[name].append(_seconds(call, counts[name]) * 1e3)
    return [_times(name, samples[name], counts[name]) for name in calls]


def _seconds(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _times(name: str, samples: list[float], count: int) -> Times:
    low, median, high, p90 = (float(v) for v in np.percentile(samples, [25, 50, 75, 90]))
    return Times(name, median, min(samples), high - low, p90, count * len(samples))


def profile_layers(model: Model, prepared: Sequence[Any], runs: int) -> tuple[LayerTime, ...]:
    """Time every kernel inside the model, with a clock read before and after each call.

    The calls of one kernel in all steps of a loop are one row.
    """
    rounds = trace(model, prepared, runs)
    rows: dict[Any, list[int]] = {}
    for place, call in enumerate(rounds[-1]):
        repeated = call.layer is not None and call.layer.calls > 1
        rows.setdefault((call.layer.layer, call.symbol) if repeated and call.layer else place, []).append(place)
    times = np.array([[call.ms for call in calls] for calls in rounds])
    medians = [float(np.median(times[:, places].sum(axis=1))) for places in rows.values()]
    total = sum(medians) or 1.0
    first = [rounds[-1][places[0]] for places in rows.values()]
    names = [(call.layer.layer if call.layer else call.symbol, call.symbol) for call in first]
    return tuple(LayerTime(*name, ms, ms / total) for name, ms in zip(names, medians, strict=True))
