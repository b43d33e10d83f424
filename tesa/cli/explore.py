"""tesa explore: how many weights of each layer go, in which pattern and precision, for a budget of time or error."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from tesa.cli.options import (
    add_extension,
    add_target,
    add_threads,
    add_tracker,
    natural,
    positive,
    shape,
    shapes_of,
    tolerance,
    use_extensions,
)  # fmt: skip
from tesa.cli.verb import Outcome, Verb
from tesa.errors import UsageError

_INTERRUPTED = "stopped by Ctrl-C; the best so far was kept, and the same command with --journal goes on from there"
_UNITS = {"": 1.0, "ms": 1.0, "us": 1e-3, "s": 1e3}


def duration_ms(text: str) -> float:
    """Read "1.5ms", "800us", "0.02s" or "1.5", as milliseconds.

    >>> duration_ms("800us")
    0.8
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(ms|us|s|)\s*", text)
    if found is None or not float(found[1]):
        raise ArgumentTypeError(f"{text!r} is no time above 0; write it as 1.5ms, 800us or 0.02s")
    return float(found[1]) * _UNITS[found[2]]


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx", help="the model, dense or pruned")
    data = "inputs to evaluate on, by name, samples along the first axis; with --metric what else it reads, as labels"
    parser.add_argument("--data", required=True, metavar="calib.npz", help=data)
    parser.add_argument("--limit", type=positive, metavar="N", help="take the first N samples only")
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--latency", type=duration_ms, metavar="TIME", help="the time of a run, as 1.5ms: least error")
    goal.add_argument("--max-error", type=tolerance, metavar="X", help="relative error of the outputs: least time")
    goal.add_argument("--max-drop", type=tolerance, metavar="X", help="what the metric may lose: least time")
    metric = "a function metric(outputs, data) that returns a number, larger for a better model"
    parser.add_argument("--metric", metavar="FILE.py", help=metric)
    parser.add_argument("-o", "--output", metavar="out.onnx", help="write the chosen model")
    parser.add_argument("--plot", metavar="FRONT.png", help="draw error over time (.png, .svg or .pdf)")
    level = (
        "a level for every layer, as 0.9, 0.3:block=16x1, 2:4, 0.5:channel, with @8 behind it in codes of 8 bits; may "
        "be repeated (default: unstructured from 0.5 to 0.95, and 16x1 from 0.3 to 0.7)"
    )
    parser.add_argument("--level", action="append", metavar="PATTERN", help=level)
    bits = "precisions of every level: 32, and 8 for codes; may be repeated (default: 32)"
    parser.add_argument("--bits", type=positive, action="append", metavar="N", help=bits)
    layer = "explore this layer only (* and ? stand for any text and letter); may be repeated"
    parser.add_argument("--layer", action="append", metavar="NAME", help=layer)
    add_target(parser)
    add_threads(parser, default=1)
    search = parser.add_argument_group("the search")
    by = "what the programme spends: latency, or flops, to compare with"
    search.add_argument("--by", choices=("latency", "flops"), default="latency", help=by)
    unaware = "hold budgets against the sum of the layers, not the model as it is compiled"
    search.add_argument("--unaware", action="store_true", help=unaware)
    method = "program, anneal, or both, one after the other (default: both)"
    search.add_argument("--method", choices=("program", "anneal", "both"), default="both", help=method)
    count = "whole configurations that are evaluated behind the programme (default: 48)"
    search.add_argument("--evaluations", type=natural, default=48, metavar="N", help=count)
    engine = "what runs a pruned model on the data: onnxruntime, or the compiled model (default: onnxruntime)"
    search.add_argument("--evaluator", choices=("onnxruntime", "compiled"), default="onnxruntime", help=engine)
    search.add_argument("--no-repair", action="store_true", help="leave out the least squares behind pruning")
    search.add_argument("--journal", metavar="FILE.jsonl", help="log of evaluations; the same command goes on from it")
    search.add_argument("--seed", type=natural, default=0, metavar="N", help="of annealing (default: 0)")
    time = parser.add_argument_group("measuring")
    time.add_argument("--finalists", type=natural, default=3, metavar="N", help="models to time (default: 3)")
    time.add_argument("--no-measure", action="store_true", help="time nothing: the cost table alone")
    time.add_argument("--log", metavar="DIR", help="folder of measured times and cost tables, for the finalists")
    add_tracker(time, "time them on the devices of this TVM RPC tracker")
    time.add_argument("--cluster", metavar="ADDRESS", help="compile their kernels on the workers of this scheduler")
    time.add_argument("--jobs", type=positive, metavar="N", help="processes that compile kernels")
    sizes = "size of an input or of a dimension that the model leaves open, as in batch=1; may be repeated"
    parser.add_argument("--shape", type=shape, action="append", default=[], metavar="NAME=SIZES", help=sizes)
    add_extension(parser)


def _run(args: Namespace) -> Outcome:
    use_extensions(args)
    from tesa.base.progress import shown
    from tesa.cli.propagate import check_output
    from tesa.explore import explore
    from tesa.explore.choices import DEFAULT
    from tesa.report.exploration import exploration_view
    from tesa.report.plain import plain

    if args.output is not None:
        check_output(Path(args.output), Path(args.model))
    if args.plot is not None:
        from tesa.report.plots import check_plot_path

        check_plot_path(args.plot)
    if args.max_drop is not None and args.metric is None:
        raise UsageError("--max-drop is of the metric: give a file with one, --metric accuracy.py")
    goal: dict[str, Any] = {"latency_ms": args.latency, "max_error": args.max_error, "max_drop": args.max_drop}
    with shown(sys.stderr, quiet=args.quiet or args.json) as progress:
        found = explore(
            args.model, data=args.data, metric=args.metric, levels=args.level or DEFAULT, bits=args.bits or (32,),
            layers=args.layer, shapes=shapes_of(args), target=args.target, threads=args.threads, by=args.by,
            aware=not args.unaware, method=args.method, evaluations=args.evaluations, evaluator=args.evaluator,
            repair=not args.no_repair, finalists=args.finalists, measure=not args.no_measure, journal=args.journal,
            log=args.log, rpc=args.rpc, key=args.key, cluster=args.cluster, jobs=args.jobs, limit=args.limit,
            seed=args.seed, progress=progress, **goal,
        )  # fmt: skip
    if args.output is not None:
        found.save(args.output)
    if args.plot is not None:
        from tesa.report.exploration import plot_exploration

        plot_exploration(found, args.plot)
    data = plain({**found.to_json(), "path": args.output, "plot": args.plot})
    stopped = _INTERRUPTED if found.interrupted else ""
    return Outcome(data, lambda: exploration_view(found, args.output, args.plot), stopped, code=130)


VERB = Verb(
    name="explore",
    help="choose sparsity, pattern and precision of each layer for a budget of time or of error",
    examples=(
        ("tesa explore model.onnx --data calib.npz --latency 1.5ms -o out.onnx", "the least error within 1.5 ms"),
        (
            "tesa explore model.onnx --data calib.npz --metric accuracy.py --max-drop 0.003 --journal run.jsonl",
            "the least time for three thousandths of the metric; stop it and go on with the same line",
        ),
        ("tesa explore model.onnx --data calib.npz --latency 1.5ms --bits 32 --bits 8", "codes of 8 bits as well"),
        (
            "tesa explore model.onnx --data calib.npz --max-error 0.1 --level 0.3:channel --level 0.5:channel",
            "channels",
        ),
        ("tesa explore model.onnx --data calib.npz --latency 20ms --target wasm32 --plot front.png", "for Node.js"),
        (
            "tesa explore model.onnx --data calib.npz --latency 5ms --rpc HOST:PORT --key pi5 --target aarch64",
            "for the devices of a tracker",
        ),
    ),
    arguments=_arguments,
    run=_run,
)
