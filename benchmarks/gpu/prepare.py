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
from benchmarks.networks.quantizing import quantized
from benchmarks.zoo import bert_base, feeds, mobilenet_v1
from tesa.base.files import write_text
from tesa.build.cache import Cache
from tesa.build.objects import BuildError
from tesa.errors import TesaError, UsageError
from tesa.targets.target import parse_target

MANIFEST = "prepared.json"
SPARSITIES: dict[str, Callable[[Any], Any]] = {
    "coarse-50": lambda model: prune.coarse(model, 0.5),
    "block-90": lambda model: prune.block(model, 0.9, (32, 32)),
    "fine-90": lambda model: prune.fine(model, 0.9),
    "block-90-fine-1": lambda model: _either(prune.block(model, 0.9, (32, 32)), prune.fine(model, 0.99)),
}
"""The kinds of sparsity of SparTA's figures 10 to 12: the masks of a model. True is kept."""

KINDS: dict[str, tuple[str, str]] = {
    **{kind: (kind, "float16") for kind in SPARSITIES},
    "fine-90-float32": ("fine-90", "float32"),
    "fine-90-int8": ("fine-90", "int8"),
}
"""Networks: the sparsity of each, and the kind of its products; int8 is quantized with ranges of random inputs."""


def _either(first: Any, second: Any) -> Any:
    """The masks that keep what one of two sets of masks keeps."""
    return {name: first[name] | second[name] if name in second else first[name] for name in first}


SMALL_WORK = 2048
"""Multiply-adds of a warp of the sweep where everything is small."""


def prepare(
    folder: Path, cases: Iterable[Case], target: str = "cuda:sm_90", sizes: Iterable[int] = sweep.SIZES,
    networks: Iterable[str] = ("mobilenet_v1", "bert_base"), say: Callable[[str], Any] = print, small: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Build everything into a folder and give what its manifest says. What is there already is not built again.

    sizes: bytes of the sweep's kernels; networks: of benchmarks.zoo. small: everything a fraction of its size, to try
    all of it out in minutes, and without a GPU on a pretended driver.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = _known(folder, target, small)
    aim, work = parse_target(target), SMALL_WORK if small else sweep.WORK
    for size in list(sizes)[: 2 if small else None]:
        for warps in sweep.WARPS[: 2 if small else None]:
            path = folder / f"sweep-{size}-{warps}.so"

            def write(size: int = size, warps: int = warps) -> Path:
                return sweep.write(folder, size, warps, aim, Cache(), work)

            if path.exists() or _try(made, path.stem, write, say):
                done = sweep.fmas(size, warps, work)
                _note(folder, made, "sweep", {"file": path.name, "size": size, "warps": warps, "fmas": done})
    for case in (case.small if small else case for case in cases):
        for family in case.families:
            path = folder / f"{case.name}-{family}.so"
            said = path.with_suffix(".json")
            there = path.exists() and said.exists()
            if there or _try(made, path.stem, lambda: _kernel(case, family, target, path), say):  # noqa: B023
                expected = json.loads(said.read_text())["plan"]["note"]
                one = {"file": path.name, "case": case.data, "family": family, "expected": expected}
                _note(folder, made, "kernels", one)
    for name in networks:
        for kind in KINDS:
            path = folder / f"{name}-{kind}.so"
            whole = path.exists() and path.with_suffix(".json").exists()
            if whole or _try(made, path.stem, lambda: _network(name, kind, target, path, small), say):  # noqa: B023
                _note(folder, made, "networks", {"file": path.name, "network": name, "sparsity": kind})
    write_text(folder / MANIFEST, json.dumps(made, indent=1) + "\n")
    say(f"{len(made['sweep'])} of the sweep, {len(made['kernels'])} kernels, {len(made['networks'])} networks; "
        f"{len(made['missing'])} could not be built")  # fmt: skip
    return made


def _known(folder: Path, target: str, small: bool) -> dict[str, Any]:
    """The manifest so far, of other groups too: a folder may be prepared in parts."""
    path = folder / MANIFEST
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["target"] != target:
            raise UsageError(f"{folder} is prepared for {found['target']}, not for {target}: give another --folder")
        if found["small"] != small:
            sizes = "small sizes" if found["small"] else "full sizes"
            raise UsageError(f"{folder} is prepared with {sizes}: give another --folder")
        return found
    return {"target": target, "small": small, "sweep": [], "kernels": [], "networks": [], "missing": []}


def _note(folder: Path, made: dict[str, Any], group: str, one: dict[str, Any]) -> None:
    """Write down what there is now, at once: preparing takes long, and may be broken off."""
    made[group] = [known for known in made[group] if known["file"] != one["file"]] + [one]
    made["missing"] = [known for known in made["missing"] if f"{known['what']}.so" != one["file"]]
    write_text(folder / MANIFEST, json.dumps(made, indent=1) + "\n")


def _try(made: dict[str, Any], name: str, build: Callable[[], Any], say: Callable[[str], Any]) -> bool:
    try:
        build()
    except (TesaError, BuildError, ValueError, NotImplementedError) as error:
        made["missing"] = [known for known in made["missing"] if known["what"] != name]
        made["missing"].append({"what": name, "why": str(error).splitlines()[0]})
        say(f"{name}: {made['missing'][-1]['why']}")
        return False
    return True


def _kernel(case: Case, family: str, target: str, path: Path) -> None:
    storage, arithmetic = case.kinds
    options: dict[str, Any] = {"target": target, "family": family, "storage": storage, "arithmetic": arithmetic}
    if case.side:
        weight = case.weight().reshape(case.m, case.k // 9, 3, 3)
        options |= {"op": "conv2d", "size": (case.side, case.side), "padding": 1}
        tesa.kernel(weight, **options).save(path)
    else:
        tesa.kernel(case.weight(), case.n, **options).save(path)


def _model(name: str, small: bool) -> Any:
    if name == "mobilenet_v1":
        return mobilenet_v1(0.25, 32, batch_norm=False, classes=10) if small else mobilenet_v1(batch_norm=False)
    return bert_base(1, 64, 2, 16, vocabulary=50) if small else bert_base()


def _network(name: str, kind: str, target: str, path: Path, small: bool) -> None:
    model = _model(name, small)
    sparsity, arithmetic = KINDS[kind]
    pruned = prune.masked(model, SPARSITIES[sparsity](model))
    if arithmetic == "int8":
        pruned, arithmetic = quantized(pruned, "static", [feeds(pruned, seed) for seed in range(2)]), "float32"
    tesa.compile(pruned, output=path, target=target, arithmetic=arithmetic, measure=False)
