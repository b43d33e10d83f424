"""tesa quantize: weights of 8 to 2 bits and activations of 8, calibrated on data, as QDQ."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import suppress
from pathlib import Path

from tesa.cli.options import positive, tolerance
from tesa.cli.propagate import check_output
from tesa.cli.verb import Outcome, Verb


def layer_bits(text: str) -> tuple[str, int]:
    """Read "block1.*=8": a layer, or a pattern of names, and its bits.

    >>> layer_bits("stem=float")
    ('stem', 32)
    """
    name, _, bits = text.rpartition("=")
    with suppress(ValueError):
        if name:
            return name, 32 if bits == "float" else int(bits)
    raise ArgumentTypeError(f"{text!r} is not NAME=BITS, as in block1.*=8 or stem=float")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx", help="the model, dense or pruned")
    parser.add_argument("-o", "--output", required=True, metavar="out.onnx", help="the quantized model")
    data = "inputs to calibrate on, by name, samples along the first axis; with --metric what else it reads, as labels"
    parser.add_argument("--data", metavar="calib.npz", help=data)
    parser.add_argument("--limit", type=positive, metavar="N", help="take the first N samples only")
    parser.add_argument(
        "--bits", type=positive, metavar="N",
        help="of weights: 8 (the default) to 2; of a search the fewest, 4 by default",
    )  # fmt: skip
    layer = "bits of a layer or a pattern of names (* and ?), float to leave it; may be repeated"
    parser.add_argument("--layer", type=layer_bits, action="append", default=[], metavar="NAME=BITS", help=layer)
    method = "how ranges of activations are found: minmax, percentile or mse, the least squared error (default: mse)"
    parser.add_argument("--method", default="mse", metavar="HOW", help=method)
    weights = "the same for weights (default: minmax for 7 and 8 bits, mse for fewer)"
    parser.add_argument("--weight-method", metavar="HOW", help=weights)
    share = "share of numbers that the method percentile covers (default: 99.99)"
    parser.add_argument("--percentile", type=float, default=99.99, metavar="P", help=share)
    parser.add_argument("--per-tensor", action="store_true", help="one scale for a weight, not one for each output")
    block = "a scale for each N inputs of a matrix product; such layers are computed with real numbers"
    parser.add_argument("--block", type=positive, metavar="N", help=block)
    parser.add_argument("--weights-only", action="store_true", help="leave activations float32; needs no data")
    mixed = parser.add_argument_group("mixed precision: as few bits in each layer as the budget allows")
    budget = mixed.add_mutually_exclusive_group()
    budget.add_argument("--max-error", type=tolerance, metavar="X", help="relative error that the outputs may have")
    drop = "what the metric may lose, in its own unit: 0.005 is half a point of an accuracy"
    budget.add_argument("--max-drop", type=tolerance, metavar="X", help=drop)
    metric = "a function metric(outputs, data) that returns a number, larger for a better model"
    parser.add_argument("--metric", metavar="FILE.py", help=metric)


def _run(args: Namespace) -> Outcome:
    from tesa.base.progress import shown
    from tesa.compress.quantize import Budget, Settings, quantize
    from tesa.report.plain import plain
    from tesa.report.quantization import quantization_view

    check_output(Path(args.output), Path(args.model))
    searched = args.max_error is not None or args.max_drop is not None
    settings = Settings(
        bits=args.bits or (4 if searched else 8),
        overrides=dict(args.layer),
        method=args.method,
        weight_method=args.weight_method,
        percentile=args.percentile,
        per_channel=not args.per_tensor,
        block=args.block,
        activations=not args.weights_only,
    )
    budget = Budget(args.max_error, args.max_drop) if searched else None
    with shown(sys.stderr, quiet=args.quiet or args.json) as progress:
        made = quantize(
            args.model, data=args.data, settings=settings, metric=args.metric, budget=budget, limit=args.limit,
            progress=progress,
        )  # fmt: skip
    made.save(args.output)
    data = {"model": args.model, "path": args.output}
    data |= {name: plain(getattr(made, name)) for name in made.__dataclass_fields__ if name != "proto"}
    return Outcome(data, lambda: quantization_view(made, args.output))


VERB = Verb(
    name="quantize",
    help="quantize a model to codes of 8 bits or fewer, calibrated on data, and write it as QDQ",
    examples=(
        ("tesa quantize model.onnx -o int8.onnx --data calib.npz", "8 bits; zeros stay zeros, in every pattern"),
        ("tesa quantize model.onnx -o int4.onnx --data calib.npz --bits 4", "weights of 4 bits, activations of 8"),
        ("tesa quantize model.onnx -o q.onnx --data calib.npz --layer 'head*=float'", "all but the head"),
        (
            "tesa quantize model.onnx -o q.onnx --data calib.npz --max-error 0.02",
            "4 bits, 8 or float32 in each layer: as few as that error allows",
        ),
        (
            "tesa quantize model.onnx -o q.onnx --data calib.npz --metric accuracy.py --max-drop 0.003",
            "the same by an accuracy; calib.npz holds the labels too",
        ),
        ("tesa quantize model.onnx -o q.onnx --weights-only --bits 4 --block 32", "weights alone, without data"),
    ),
    arguments=_arguments,
    run=_run,
)
