"""Runs what has been prepared: results first, then times, a line of JSON each, so that a run may be broken off."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tesa
from benchmarks.gpu.cases import Case
from benchmarks.gpu.peers import Peer, allow_tf32, peers, why
from benchmarks.gpu.prepare import MANIFEST
from benchmarks.gpu.timing import Library, copies_for, microseconds, sets_for
from benchmarks.gpu.torch_networks import network_peers
from tesa.build.package import ENTRY
from tesa.errors import TesaError
from tesa.runtime.gpu import GpuLibrary

Row = dict[str, Any]


def run(folder: Path, out: Path | None = None, only: str = "", say: Callable[[str], Any] = print) -> list[Row]:
    """Run everything of a folder, or one group of it, and give its rows; those that `out` has are not run again.

    Without torch only tesa's own kernels run, by the driver's events, and are compared with NumPy.
    """
    manifest = json.loads((folder / MANIFEST).read_text())
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out is not None and out.exists() else []
    done = {row["name"] for row in rows if "error" not in row}
    torch = _torch(say)
    for row in _rows(folder, manifest, torch, only, done):
        rows.append(row)
        say(_line(row))
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    for one in manifest["missing"]:
        say(f"{one['what']}: was not built: {one['why']}")
    return rows


def _torch(say: Callable[[str], Any]) -> Any:
    try:
        import torch
    except ImportError:
        say("torch is not installed: no peers, no graphs")
        return None
    if not hasattr(torch, "cuda") or not torch.cuda.is_available():
        say("torch has no CUDA device: no peers, no graphs")
        return None
    return torch


def _rows(folder: Path, manifest: Row, torch: Any, only: str, done: set[str]) -> Iterator[Row]:
    for one in manifest["sweep"]:
        if only in ("", "sweep") and one["file"] not in done:
            yield _guarded(one["file"], lambda: _sweep(folder / one["file"], one))  # noqa: B023
    for one in manifest["kernels"]:
        case = Case(**{**one["case"], "families": tuple(one["case"]["families"])})
        if only in ("", case.group) and one["file"] not in done:
            yield _guarded(one["file"], lambda: _kernel(folder / one["file"], case, one, torch))  # noqa: B023
    known: dict[str, Any] = {}
    for one in manifest["networks"]:
        if only in ("", "networks") and one["file"] not in done:
            yield _guarded(one["file"], lambda: _network(folder / one["file"], one, torch, known))  # noqa: B023


def _guarded(name: str, make: Callable[[], Row]) -> Row:
    try:
        return {"name": name, **make()}
    except (TesaError, AssertionError) as error:
        return {"name": name, "error": str(error).splitlines()[0] if str(error) else type(error).__name__}
    except Exception as error:  # whatever a device's libraries raise: the other rows are wanted all the same
        return {"name": name, "error": why(error)}


def _sweep(path: Path, one: Row) -> Row:
    library = GpuLibrary(path, "kernel", ENTRY)
    ms = min(library.time_ms([np.ones(1, np.float32)], 1) for _ in range(3))
    return {
        "size": one["size"],
        "warps": one["warps"],
        "ms": ms,
        "fmas_per_us_and_multiprocessor": one["fmas"] / ms / 1000,
    }


def _kernel(path: Path, case: Case, one: Row, torch: Any) -> Row:
    name = json.loads(path.with_suffix(".json").read_text())["name"]
    weight, x = case.weight(), case.x()
    library = GpuLibrary(path, name, ENTRY)
    y = np.asarray(library(x.reshape(library.inputs[0]["shape"])))
    difference = float(np.abs(_wanted(case, weight, x).reshape(y.shape) - y).max())
    limit = _limit(case, weight)
    assert difference <= limit, f"differs from NumPy by {difference:g}, more than {limit:g}"
    row = {"family": one["family"], "case": case.data, "expected": one["expected"], "difference": difference}
    if torch is None:
        return {**row, "us": {"launch": 1000 * library.time_ms([x.reshape(library.inputs[0]["shape"])], 50)}}
    return {**row, **_timed(path, name, case, torch, library)}


def _wanted(case: Case, weight: Any, x: Any) -> Any:
    if not case.side:
        return weight.astype(np.float64) @ x[0].astype(np.float64)
    padded = np.pad(x[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    views = [padded[:, i : i + case.side, j : j + case.side] for i in range(3) for j in range(3)]
    return weight.astype(np.float64) @ np.stack(views, 1).reshape(case.k, -1)


def _limit(case: Case, weight: Any) -> float:
    """The error that rounding may leave in a sum of so many terms of at most 1."""
    terms = float(np.abs(weight).sum(axis=1).max())
    return terms * (2.0**-9 if case.arithmetic == "float16" else 2.0**-20) + 1e-5


def _timed(path: Path, name: str, case: Case, torch: Any, library: GpuLibrary) -> Row:
    shape, outputs = library.inputs[0]["shape"], library.outputs[0]["shape"]
    x = torch.from_numpy(case.x()).cuda()
    count = sets_for(4 * (x.numel() + int(np.prod(outputs))))
    inputs = [x.clone().reshape(shape) for _ in range(count)]
    results = [torch.empty(outputs, device="cuda") for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        # few columns: the weight is what is read, and must not be found in the cache
        many = copies_for(path.stat().st_size) if case.group == "skinny" else 1
        kernels = [Library(one, name) for one in _copies(path, many, Path(folder))]

        def call(i: int) -> None:
            stream = torch.cuda.current_stream().cuda_stream
            kernels[i % many]([inputs[i % count]], [results[i % count]], stream)

        own = microseconds(torch, call, max(many, count))
    weight = torch.from_numpy(case.weight()).cuda()
    many = copies_for(2 * weight.numel()) if case.group == "skinny" else 1
    others: dict[str, Any] = {}
    weights = [weight, *(weight.clone() for _ in range(1, many))]
    for peer, facts, calls in peers(torch, case, weights):
        others[peer] = calls if isinstance(calls, str) else _peer(torch, case, facts, calls, (x, inputs, results[0]))
        torch.cuda.empty_cache()
    return {"us": own, "peers": others, "device": torch.cuda.get_device_name()}


def _copies(path: Path, many: int, folder: Path) -> Iterator[Path]:
    """The library, and copies of it: each is loaded apart and has its own weight on the device."""
    yield path
    for i in range(1, many):
        yield Path(shutil.copy(path, folder / f"copy{i}.so"))


def _peer(torch: Any, case: Case, facts: Peer, calls: list[Callable[[Any], Any]], tensors: tuple[Any, Any, Any]) -> Any:
    """Its times, or the reason why there are none. tensors: X, its copies, and the kernel's result."""
    x, inputs, result = tensors
    allow_tf32(torch, facts.tf32)
    try:
        own = [one.reshape(x.shape).to(getattr(torch, facts.kind)) for one in inputs]
        if facts.exact:
            away = float((calls[0](own[0]).reshape(result.shape) - result).abs().max())
            assert away <= 2 * _limit(case, case.weight()), f"differs by {away:g}"
        return microseconds(torch, lambda i: calls[i % len(calls)](own[i % len(own)]), max(len(calls), len(own)))
    except Exception as error:  # as above
        return why(error)


def _network(path: Path, one: Row, torch: Any, known: dict[str, Any]) -> Row:
    """Its row. known: the times of torch's networks, which are the same for every kind of sparsity."""
    compiled = tesa.load(path)
    library = GpuLibrary(path, str(compiled.manifest.library["name"]), compiled.manifest.sizes[0].function)
    rng = np.random.default_rng(0)
    given = [
        rng.integers(0, 2, port["shape"]).astype(port["dtype"])
        if port["dtype"].startswith("int")
        else rng.standard_normal(port["shape"]).astype(port["dtype"])
        for port in library.inputs
    ]
    outputs = library(*given)
    for found in outputs if isinstance(outputs, tuple) else (outputs,):
        assert np.isfinite(np.asarray(found)).all(), "an output is no number"
    row = {**one, "us": {"graph": 1000 * library.time_ms(given, 50)}}
    if torch is None:
        return row
    if one["network"] not in known:
        known[one["network"]] = dict(_network_peers(torch, one["network"]))
    return {**row, "peers": known[one["network"]], "device": torch.cuda.get_device_name()}


def _network_peers(torch: Any, name: str) -> Iterator[tuple[str, Any]]:
    allow_tf32(torch, False)
    for peer, call in network_peers(torch, name):
        try:
            yield peer, microseconds(torch, lambda _, call=call: call(), 1)
        except Exception as error:  # as above
            yield peer, why(error)


def _line(row: Row) -> str:
    """A row in words."""
    if "error" in row:
        return f"{row['name']}: {row['error']}"
    if "size" in row:
        return f"{row['size'] >> 10} KB x {row['warps']}: {row['fmas_per_us_and_multiprocessor']:.0f} FMAs a us and SM"
    own = row["us"].get("graph") or row["us"]["launch"]
    words = [f"{row['name']}: {own:.1f} us"]
    for peer, times in row.get("peers", {}).items():
        if isinstance(times, dict):
            words.append(f"{peer} {(times.get('graph') or times['launch']) / own:.2f}x")
    return ", ".join(words)
