"""tesa prune: zeros in the weights of a model, by a pattern; with calibration data what they cost is repaired."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from tesa.cli.propagate import check_output
from tesa.cli.verb import Outcome, Verb


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx", help="the model")
    parser.add_argument("-o", "--output", metavar="out.onnx", required=True, help="the pruned model")
    parser.add_argument(
        "--pattern", default="unstructured", metavar="P",
        help="unstructured, RxC (blocks of rows x columns: 16x1, 4x4, 1x4), N:M, channel or filter, row, column, "
        "taps=G; `tesa list patterns`",
    )  # fmt: skip
    parser.add_argument("--sparsity", type=float, metavar="S", help="the share of zeros in each layer, 0.9 for 90 %%")
    parser.add_argument(
        "--layer", action="append", default=[], metavar="NAME=RULE",
        help="another share (0.5), pattern (0.5:4x4, 2:4) or `dense` for the layers of a name, or a glob; the last "
        "that fits holds",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="calib.npz",
        help="calibration data, an array for each input, the first axis counting samples: each layer is repaired by "
        "least squares",
    )  # fmt: skip
    parser.add_argument(
        "--depthwise", metavar="S:P", help="a pattern for depthwise filters, which else stay dense: 0.3:taps=4"
    )
    parser.add_argument(
        "--importance",
        metavar="HOW",
        help="l1 (without data), l2, sparsegpt (with data), scale-free, wanda, or scores.npz by layer",
    )
    parser.add_argument(
        "--budget", choices=("balanced", "global", "network"),
        help="each group of rows keeps equally many units (blocks of several rows, by default), each layer the best of "
        "its own, or all layers together",
    )  # fmt: skip
    parser.add_argument("--ends", action="store_true", help="also prune the first and the last layer")
    parser.add_argument(
        "--infeasible", choices=("error", "dense"), default="error",
        help="a layer that cannot have its pattern: an error, or it stays dense and is listed",
    )  # fmt: skip
    parser.add_argument(
        "--rearrange", nargs="?", const="auto", choices=("auto", "network", "layer"), default=False, metavar="HOW",
        help="group channels that lose the same: in the whole network, whose outputs stay (network), or by an order of "
        "the rows of each layer (layer); auto takes what costs nothing",
    )  # fmt: skip
    parser.add_argument(
        "--metric", metavar="FILE.py",
        help="a function metric(outputs, data): its number on --data for the dense and the pruned model",
    )  # fmt: skip
    parser.add_argument("--no-reconstruct", action="store_true", help="with --data: choose by them, but repair nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs that are drawn where there are many (0)")


def _run(args: Namespace) -> Outcome:
    from tesa.base.progress import shown
    from tesa.cli.arrays import read_npz
    from tesa.compress import prune
    from tesa.compress.rules import parse_rule
    from tesa.report.pruning import pruning_view

    check_output(Path(args.output), Path(args.model))
    scores: Any = args.importance
    if scores is not None and scores.endswith(".npz"):
        scores = read_npz(scores)
    with shown(sys.stderr, quiet=args.quiet or args.json) as progress:
        pruned = prune(
            args.model, args.pattern, args.sparsity, data=args.data, metric=args.metric,
            layers=dict(parse_rule(text, args.pattern) for text in args.layer), depthwise=args.depthwise,
            importance=scores, budget=args.budget, ends=args.ends, infeasible=args.infeasible,
            rearrange=args.rearrange, reconstruct=not args.no_reconstruct, seed=args.seed, progress=progress,
        )  # fmt: skip
    data = {"model": args.model, "path": args.output, **pruned.to_json()}
    pruned.save(args.output)
    return Outcome(data, lambda: pruning_view(pruned, args.output))


VERB = Verb(
    name="prune",
    help="set weights of a model to zero by a pattern, and write it as ONNX",
    examples=(
        ("tesa prune model.onnx -o sparse.onnx --sparsity 0.7", "the smallest 70 % of each layer, without data"),
        ("tesa prune model.onnx -o sparse.onnx --pattern 16x1 --sparsity 0.3", "groups of 16 outputs, for row panels"),
        ("tesa prune model.onnx -o sparse.onnx --pattern 2:4 --layer 'head*=dense'", "all but the head"),
    ),
    arguments=_arguments,
    run=_run,
)
