"""tesa tune: measures many candidates for each layer of a model, and keeps the times for every compile after that."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tesa.cli.options import add_kernels, chosen, minutes, natural, positive, use_extensions, words_of
from tesa.cli.verb import Outcome, Verb

if TYPE_CHECKING:
    from rich.console import RenderableType

_TRIALS = 64
_INTERRUPTED = "stopped by Ctrl-C; the best so far is kept, and the same command goes on from there"


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx", help="the model whose layers are tuned")
    add_kernels(parser)
    trials = f"measurements of a layer, on average; those in the log count (default: {_TRIALS} if no minutes are given)"
    parser.add_argument("--trials", type=positive, metavar="N", help=trials)
    parser.add_argument("--minutes", type=minutes, metavar="M", help="end after M minutes with the best so far")
    resume = "go on with what is in the log, as every job does, and say so where that is nothing"
    parser.add_argument("--resume", action="store_true", help=resume)
    layer = "tune this layer only (* and ? stand for any text and letter); may be repeated"
    parser.add_argument("--layer", action="append", metavar="NAME", help=layer)
    mode = "how candidates are chosen: model, random or exhaustive (default: model)"
    parser.add_argument("--mode", default="model", metavar="MODE", help=mode)
    curve = "draw the best time over the measurements of each layer there (.png, .svg, .pdf)"
    parser.add_argument("--plot", metavar="OUT.png", help=curve)
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="of all that is random (default: 0)")


def _run(args: Namespace) -> Outcome:
    use_extensions(args)
    from tesa.report.tune import shown_status

    if args.plot is not None:
        from tesa.report.plots import check_plot_path

        check_plot_path(args.plot)

    with shown_status(sys.stderr, quiet=args.quiet or args.json) as (progress, watch):
        from rich.text import Text

        from tesa.report.plain import plain
        from tesa.report.tune import tuned_view
        from tesa.tune.model import tune_model

        tuned = tune_model(
            args.model,
            trials=args.trials,
            minutes=args.minutes,
            mode=args.mode,
            seed=args.seed,
            layers=args.layer,
            resume=args.resume,
            progress=progress,
            watch=watch,
            **chosen(args),
        )
    if args.plot is not None:
        tuned.plot(args.plot)
    data = {**plain(tuned), "compile": _compile(args)}
    for row, layer in zip(data["layers"], tuned.layers, strict=True):
        row["gain"] = layer.gain
    known = any(layer.best_ms is not None for layer in tuned.layers)

    def view() -> Iterator[RenderableType]:
        yield from tuned_view(tuned)
        if known:
            yield Text(f"\nA compile with what was found:\n  {data['compile']}")

    if tuned.interrupted:
        return Outcome(data, view, _INTERRUPTED, code=130)
    failure = ""
    if tuned.stopped:
        failure = f"ended early, the best so far is kept: {tuned.stopped}"
    elif tuned.unsaved:
        failure = f"{tuned.unsaved} of {tuned.measured} results could not be written to the log; see above"
    return Outcome(data, view, failure)


def _compile(args: Namespace) -> str:
    """The command that compiles the model with the log that the job has written."""
    suffix = ".wasm" if str(args.target).startswith("wasm") else ".so"
    words = ["tesa", "compile", args.model, "-o", Path(args.model).stem + suffix]
    return shlex.join([*words, *words_of(args, but=("jobs", "cluster", "cluster_tls"))])


VERB = Verb(
    name="tune",
    help="search the fastest kernels of a model by measuring many candidates",
    examples=(
        ("tesa tune model.onnx --log logs", "64 measurements a layer on this machine; then compile with --log logs"),
        ("tesa tune model.onnx --minutes 30 --threads 2", "for half an hour, for two threads, into your own log"),
        (
            "tesa tune model.onnx --trials 200 --layer 'block5.*' --plot curve.png",
            "more of some layers, with a picture",
        ),
        ("tesa tune model.onnx --rpc 10.0.0.2:9190 --key pi5 --target aarch64:cortex-a76", "on devices of a tracker"),
        (
            "tesa tune model.onnx --target cuda:sm_90 --log logs",
            "on this machine's GPU; compile with --log logs anywhere",
        ),
        ("tesa tune model.onnx --cluster tcp://10.0.0.3:8786", "compile the candidates on a Dask cluster"),
    ),
    arguments=_arguments,
    run=_run,
)
