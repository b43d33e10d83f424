"""Builds all that a run needs, without a GPU, and writes down what could not be built and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tesa
from benchmarks import prune
from benchmarks.gpu import sweep
from benchmarks.gpu.cases import Case
from benchmarks.zoo import bert_base, mobilenet_v1
from tesa.base.files import write_text
from tesa.build.cache import Cache
from tesa.build.objects import BuildError
from tesa.errors import TesaError
from tesa.targets.target import parse_target

MANIFEST = "prepared.json"
SPARSITIES: dict[str, Callable[[Any], Any]] = {
    "coarse-50": lambda model: prune.coarse(model, 0.5),
    "block-90": lambda model: prune.block(model, 0.9, (32, 32)),
    "fine-90": lambda model: prune.fine(model, 0.9),
    "block-90-fine-1": lambda model: _either(prune.block(model, 0.9, (32, 32)), prune.fine(model, 0.99)),
}
"""The kinds of sparsity of SparTA's figures 10 to 12: the masks of a model. True is kept."""


def _either(first: Any, second: Any) -> Any:
    """What one of two sets of masks keeps."""
    return {name: first[name] | second[name] if name in second else first[name] for name in first}


def prepare(
    folder: Path, cases: Iterable[Case], target: str = "cuda:sm_90", sizes: Iterable[int] = sweep.SIZES,
    networks: Iterable[str] = ("mobilenet_v1", "bert_base"), say: Callable[[str], Any] = print,
) -> dict[str, Any]:  # fmt: skip
    """Build everything into a folder and give what its manifest says. What is there already is not built again.

    sizes: bytes of the sweep's kernels; networks: of benchmarks.zoo.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {"target": target, "sweep": [], "kernels": [], "networks": [], "missing": []}
    aim = parse_target(target)
    for size in sizes:
        for warps in sweep.WARPS:
            path = folder / f"sweep-{size}-{warps}.so"
            if path.exists() or _try(made, path.stem, lambda: sweep.write(folder, size, warps, aim, Cache()), say):  # noqa: B023
                made["sweep"].append({"file": path.name, "size": size, "warps": warps})
    for case in cases:
        for family in case.families:
            path = folder / f"{case.name}-{family}.so"
            if path.exists() or _try(made, path.stem, lambda: _kernel(case, family, target, path), say):  # noqa: B023
                said = path.with_suffix(".json")
                expected = json.loads(said.read_text())["plan"]["note"] if said.exists() else ""
                made["kernels"].append({"file": path.name, "case": case.data, "family": family, "expected": expected})
    for name in networks:
        for kind in SPARSITIES:
            path = folder / f"{name}-{kind}.so"
            if path.exists() or _try(made, path.stem, lambda: _network(name, kind, target, path), say):  # noqa: B023
                made["networks"].append({"file": path.name, "network": name, "sparsity": kind})
    write_text(folder / MANIFEST, json.dumps(made, indent=1) + "\n")
    say(f"{len(made['sweep'])} of the sweep, {len(made['kernels'])} kernels, {len(made['networks'])} networks; "
        f"{len(made['missing'])} could not be built")  # fmt: skip
    return made


def _try(made: dict[str, Any], name: str, build: Callable[[], Any], say: Callable[[str], Any]) -> bool:
    try:
        build()
    except (TesaError, BuildError, ValueError, NotImplementedError) as error:
        made["missing"].append({"what": name, "why": str(error).splitlines()[0]})
        say(f"{name}: {made['missing'][-1]['why']}")
        return False
    return True


def _kernel(case: Case, family: str, target: str, path: Path) -> None:
    options: dict[str, Any] = {"target": target, "family": family}
    if case.arithmetic == "float16":
        # few columns are bound by the bytes of the weight, and keep float32 sums
        options |= {"storage": "float16"} if family == "skinny" else {"storage": "float16", "arithmetic": "float16"}
    if case.side:
        weight = case.weight().reshape(case.m, case.k // 9, 3, 3)
        options |= {"op": "conv2d", "size": (case.side, case.side), "padding": 1}
        tesa.kernel(weight, **options).save(path)
    else:
        tesa.kernel(case.weight(), case.n, **options).save(path)


def _network(name: str, kind: str, target: str, path: Path) -> None:
    model = mobilenet_v1(batch_norm=False) if name == "mobilenet_v1" else bert_base()
    tesa.compile(prune.masked(model, SPARSITIES[kind](model)), output=path, target=target, measure=False)
