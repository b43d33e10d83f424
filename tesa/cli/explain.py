"""tesa explain: why a layer got its kernel, or, of a model file, why something is known of its tensors."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesa.base.told import parsed
from tesa.cli.options import add_model_inputs, positive, shapes_of
from tesa.cli.verb import Outcome, Verb
from tesa.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from tesa.choose.plan import LayerPlan, Plan


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.so|model.onnx", help="a compiled model (or its model.json), or a model")
    parser.add_argument("layer", metavar="LAYER", nargs="?", help="a layer or ONNX node; without it: all in a table")
    parser.add_argument("--plot", metavar="OUT.png", help="draw the gain, or the facts, of each layer")
    add_model_inputs(parser)
    parser.add_argument("--depth", type=positive, metavar="N", help="of a model.onnx: how many steps back to show")


def _run(args: Namespace) -> Outcome:
    if Path(args.model).suffix == ".onnx":
        return _facts(args)
    for option in ("mask", "shape", "depth", "flush-denormals"):
        if getattr(args, option.replace("-", "_")):
            raise UsageError(f"--{option} goes with a model.onnx; {args.model} is a compiled model")
    return _kernels(args)


def _kernels(args: Namespace) -> Outcome:
    from tesa.report.plain import plain
    from tesa.report.plan import plan_table
    from tesa.report.plots import plot_speedups

    plans = read_plans(Path(args.model))
    first = next(iter(plans.values()))
    if args.plot is not None:
        plot_speedups(first, args.plot)
    if args.layer is None:
        rows = {size: plan.to_json() for size, plan in plans.items()}
        return Outcome(_by_size(rows), lambda: [plan_table(plan, size) for size, plan in plans.items()])
    found = {size: _row(plan, args.layer, args.model) for size, plan in plans.items()}
    data = {
        s: {
            "target": plans[s].target,
            "threads": plans[s].threads,
            "computed_by": list(plans[s].computing(args.layer)),
            **plain(row),
        }
        for s, row in found.items()
    }
    views = (view for size, row in found.items() for view in _views(row, plans[size], size, args.layer))
    return Outcome(_by_size(data), lambda: views)


def _row(plan: Plan, name: str, path: str) -> LayerPlan:
    """The row of the plan for a layer or node. For one that nothing computes it is one that says why."""
    from tesa.choose.plan import LayerPlan

    layer = plan.nodes.get(name, name)
    if plan.find(layer) is None and layer in plan.elsewhere:
        return LayerPlan(layer, "", "none", (), note=plan.elsewhere[layer])
    return find_layer(plan, layer, path)


def _views(row: LayerPlan, plan: Plan, size: str, asked: str) -> Iterator[RenderableType]:
    from tesa.report.plan import explanation

    if row.kind == "none":
        return iter([f"{row.layer}: no kernel computes it: {row.note}"])
    return explanation(row, plan, size, plan.nodes.get(asked, asked))


def _by_size(rows: dict[str, dict[str, Any]]) -> Any:
    """The row of the only size, or a row for each with its name."""
    if len(rows) == 1:
        return next(iter(rows.values()))
    return {"sizes": [{"size": size, **row} for size, row in rows.items()]}


def _facts(args: Namespace) -> Outcome:
    from tesa.report.plots import check_plot_path

    if args.plot is not None:
        check_plot_path(args.plot)
    from tesa.frontend import import_onnx
    from tesa.propagate import propagate
    from tesa.propagate.explain import DEPTH, explain
    from tesa.report.plain import plain
    from tesa.report.propagation import propagation_table
    from tesa.report.propagation_plot import plot_propagation

    options = {"shapes": shapes_of(args), "masks": args.mask, "flush_denormals": args.flush_denormals}
    model = propagate(import_onnx(args.model, **options))
    if args.plot is not None:
        plot_propagation(model, args.plot)
    if args.layer is None:
        table = propagation_table(model, every=True)
        return Outcome(table.to_json(), lambda: table.view(args.plot))
    from rich.text import Text

    found = explain(model, args.layer, depth=args.depth or DEPTH)
    return Outcome(plain(found.to_json()), lambda: [Text(str(found))])


def read_plans(path: Path) -> dict[str, Plan]:
    """The plan of each size in the .json beside a compiled model, by the size in words, which is "" for the only one.

    UsageError if the file is missing or damaged.
    """
    from tesa.runtime.manifest import sizes_in

    if path.suffix not in (".so", ".o", ".wasm", ".json"):
        raise UsageError(f"{path} is no compiled model: give model.so, or the model.json beside it; or a model.onnx")
    file = path.with_suffix(".json")
    try:
        data: Any = parsed(file.read_bytes())
        if "tesa_kernel" in data:
            raise UsageError(f"{file} describes a single kernel, which has no plan of layers; look at its Kernel.plan")
        sizes = sizes_in(data)
        return {str(size) if len(sizes) > 1 else "": size.plan for size in sizes}
    except FileNotFoundError as error:
        raise UsageError(
            f"cannot read {file}: there is no such file; `tesa compile` writes it beside the model, keep them together"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file} holds no plan of this version of tesa; compile the model again") from error


def find_layer(plan: Plan, name: str, path: str) -> LayerPlan:
    """The call that computes the layer or ONNX node of that name.

    UsageError that names the nearest ones if there is none. path: of the plan's model.
    """
    found = plan.find(name)
    if found is not None:
        return found
    names = [layer.layer for layer in plan.layers]
    known = [*names, *(other for layer in plan.layers for other in layer.covers), *plan.elsewhere, *plan.nodes]
    near = list(dict.fromkeys(get_close_matches(name, known, n=3, cutoff=0.4)))
    hint = f"nearest: {', '.join(near)}; " if near else ""
    raise UsageError(f"no layer {name!r} in {path}; {hint}`tesa explain {path}` lists all {len(names)}")


VERB = Verb(
    name="explain",
    help="show why a layer got its kernel, or why its zeros are known",
    examples=(
        ("tesa explain model.so", "all layers and their kernels"),
        ("tesa explain model.so block3.pointwise", "what is known of one layer, and every candidate with its time"),
        ("tesa explain model.so block3.pointwise --json", "the same for a program"),
        ("tesa explain model.so --plot gains.png", "a bar for each layer: how much faster than its dense self"),
        ("tesa explain model.onnx block3.pointwise", "what is known of its tensors, and where that comes from"),
        ("tesa explain model.onnx block3.pointwise --mask masks.npz", "the same, with weights pruned first"),
    ),
    arguments=_arguments,
    run=_run,
)
