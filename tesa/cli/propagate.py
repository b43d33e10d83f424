"""tesa propagate: what follows from the zeros of a model, layer by layer; and the smaller model that this makes."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesa.cli.options import add_model_inputs, shapes_of
from tesa.cli.verb import Outcome, Verb
from tesa.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from tesa.compact import Compacted
    from tesa.propagate import TesaModel


SMALLER = "write the model without what is not needed; where it would not be smaller, a copy of the given file"


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx", help="the model, with its zeros or with --mask")
    parser.add_argument("-o", "--output", metavar="smaller.onnx", help=SMALLER)
    parser.add_argument("--plot", metavar="FACTS.png", help="draw sparsity and bits by layer (.png, .svg or .pdf)")
    parser.add_argument("--all", action="store_true", help="list the layers without a weight as well")
    add_model_inputs(parser)


def _run(args: Namespace) -> Outcome:
    from tesa.report.plain import plain
    from tesa.report.plots import check_plot_path

    if args.plot is not None:
        check_plot_path(args.plot)
    if args.output is not None:
        check_output(Path(args.output), Path(args.model))
    from rich.text import Text

    from tesa.frontend import import_onnx
    from tesa.propagate import propagate
    from tesa.report.compaction import compaction_view
    from tesa.report.propagation import propagation_table
    from tesa.report.propagation_plot import plot_propagation

    options = {"shapes": shapes_of(args), "masks": args.mask, "flush_denormals": args.flush_denormals}
    model = propagate(import_onnx(args.model, **options))
    table = propagation_table(model, every=args.all)
    if args.plot is not None:
        plot_propagation(table, args.plot)
    data: dict[str, Any] = {**table.to_json(), "plot": args.plot}
    if args.output is None:
        return Outcome(data, lambda: table.view(args.plot))
    graph = model.imported.graph
    changed = args.mask is not None or (graph is not None and graph.given.flushed)
    compacted, error = write_smaller(model, Path(args.output), Path(args.model), changed=changed)
    copied = not compacted.smaller and not changed
    data["compacted"] = {
        "path": args.output,
        "copied": copied,
        "max_error": error,
        **{name: plain(getattr(compacted, name)) for name in compacted.__dataclass_fields__ if name != "proto"},
    }
    fixed = [Text("its inputs are fixed to the sizes given with --shape")] if args.shape and not copied else []
    view = compaction_view(compacted, error, args.output, copied=copied)
    return Outcome(data, lambda: [*table.view(args.plot), *view, *fixed])


def check_output(output: Path, model: Path) -> None:
    """UsageError for a place that cannot be written, before any work is done; the model itself is never replaced.

    >>> check_output(Path("model.onnx"), Path("model.onnx"))
    Traceback (most recent call last):
    ...
    tesa.errors.UsageError: cannot write model.onnx: it is the model that is read; give another name
    """
    if output.suffix != ".onnx":
        raise UsageError(f"cannot write {output}: the smaller model is an ONNX file; give a name that ends in .onnx")
    if os.path.realpath(output) == os.path.realpath(model):
        raise UsageError(f"cannot write {output}: it is the model that is read; give another name")
    if not output.parent.is_dir():
        raise UsageError(
            f"cannot write {output}: there is no folder {output.parent}; make it: mkdir -p {output.parent}"
        )


def write_smaller(
    model: TesaModel, path: Path, source: Path, *, changed: bool = False
) -> tuple[Compacted, float | None]:
    """Compact a model, compare the result with the given one, and write it. (result, largest error).

    Where the result is not smaller than the file `source`, that is copied: what reads `path` next finds the model there
    in any case. changed: the weights have other zeros than in that file, so that the result is written whatever its
    size. The error is None where it was not looked for: the file was copied, or onnxruntime is not installed.
    CheckFailed, and nothing written, if the outputs differ.
    """
    from importlib.util import find_spec

    from tesa.compact import check_smaller, compact, copy, save

    compacted = compact(model)
    error = None
    if not compacted.smaller and not changed:
        copy(source, path)
        return compacted, error
    if find_spec("onnxruntime") is not None:
        check = check_smaller(model.imported, compacted.proto)
        if check.fault:
            raise CheckFailed(
                f"{model.imported.source}: the smaller model did not pass the comparison with onnxruntime: "
                f"{check.fault}; {path} was not written. Please report the model"
            )
        error = check.error
    graph = model.imported.graph
    save(compacted.proto, path, external=graph is not None and graph.given.external)
    return compacted, error


VERB = Verb(
    name="propagate",
    help="show what follows from a model's zeros, layer by layer, and write the smaller model",
    examples=(
        ("tesa propagate model.onnx", "zeros by layer before and after, and what is known of activations"),
        ("tesa propagate model.onnx --mask masks.npz -o smaller.onnx", "prune, then remove all that is not needed"),
        ("tesa propagate model.onnx --mask masks.npz --plot facts.png", "what a mask leads to, by layer, as a picture"),
        ("tesa propagate model.onnx --shape image=1,3,224,224 --json", "the same for a program, with a size set"),
    ),
    arguments=_arguments,
    run=_run,
)
