"""tesa explain: why a layer got its kernel, read from the plan that stands beside the compiled model."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesa.cli.verb import Outcome, Verb
from tesa.errors import UsageError

if TYPE_CHECKING:
    from tesa.plan import LayerPlan, Plan


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.so", help="a compiled model; or its model.json")
    parser.add_argument("layer", metavar="LAYER", nargs="?", help="the layer to explain; without it: all in a table")
    parser.add_argument("--plot", metavar="OUT.png", help="draw how much faster than dense each layer is")


def _run(args: Namespace) -> Outcome:
    from tesa.report.plain import plain
    from tesa.report.plan import explanation, plan_table
    from tesa.report.plots import plot_speedups

    plan = read_plan(Path(args.model))
    if args.plot is not None:
        plot_speedups(plan, args.plot)
    if args.layer is None:
        return Outcome(plan.to_json(), lambda: [plan_table(plan)])
    layer = _find(plan, args.layer, args.model)
    data = {"target": plan.target, "threads": plan.threads, **plain(layer)}
    return Outcome(data, lambda: explanation(layer, plan))


def read_plan(path: Path) -> Plan:
    """The plan in the .json beside a compiled model. UsageError if it is missing or damaged."""
    from tesa.plan import Plan

    if path.suffix not in (".so", ".json"):
        raise UsageError(f"{path} is no compiled model: give model.so, or the model.json beside it")
    file = path.with_suffix(".json")
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
        if "tesa_kernel" in data:
            raise UsageError(f"{file} describes a single kernel, which has no plan of layers; look at its Kernel.plan")
        return Plan.from_json(data["plan"])
    except FileNotFoundError as error:
        raise UsageError(
            f"cannot read {file}: there is no such file; `tesa compile` writes it beside the model, keep them together"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} holds no plan of this version of tesa; compile the model again") from error


def _find(plan: Plan, name: str, path: str) -> LayerPlan:
    try:
        return plan.layer(name)
    except KeyError:
        names = [layer.layer for layer in plan.layers]
        near = get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise UsageError(f"no layer {name!r} in {path}; {hint}`tesa explain {path}` lists all {len(names)}") from None


VERB = Verb(
    name="explain",
    help="show why a layer got its kernel: facts, candidates, times",
    examples=(
        ("tesa explain model.so", "all layers and their kernels"),
        ("tesa explain model.so block3.pointwise", "what is known of one layer, and every candidate with its time"),
        ("tesa explain model.so block3.pointwise --json", "the same for a program"),
        ("tesa explain model.so --plot gains.png", "a bar for each layer: how much faster than its dense self"),
    ),
    arguments=_arguments,
    run=_run,
)
