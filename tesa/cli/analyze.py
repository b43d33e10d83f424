"""tesa analyze: what a model would cost dense and sparse, before anything is pruned or compiled."""

import sys
from argparse import ArgumentParser, Namespace

from tesa.cli.options import add_extension, add_model_inputs, add_target, add_threads, shapes_of, use_extensions
from tesa.cli.verb import Outcome, Verb


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx", help="the model to analyze")
    add_target(parser)
    add_threads(parser, default=1)
    parser.add_argument(
        "--impose",
        action="append",
        default=[],
        metavar="PATTERN",
        help="zeros to impose by magnitude on a copy of the weights: 0.9, 0.9:block=4x4, 0.5:2:4 or 0.5:channel, for "
        "one layer NAME=0.9; may be repeated",
    )
    parser.add_argument("--table", metavar="FILE", help="cost table to predict with (default: this target's)")
    add_model_inputs(parser)
    add_extension(parser)


def _run(args: Namespace) -> Outcome:
    use_extensions(args)
    from tesa.analyze.imposition import Rules
    from tesa.base.progress import shown

    Rules.parse(args.impose)  # a misspelt pattern is told before a large model is read
    with shown(sys.stderr, quiet=args.quiet or args.json) as progress:
        from tesa.analyze.analysis import analyze_model
        from tesa.report.analyze import analysis_view

        analysis = analyze_model(
            args.model,
            target=args.target,
            threads=args.threads,
            impose=args.impose,
            shapes=shapes_of(args),
            masks=args.mask,
            flush_denormals=args.flush_denormals,
            table=args.table,
            progress=progress,
        )
    return Outcome(analysis.to_json(), lambda: analysis_view(analysis))


VERB = Verb(
    name="analyze",
    help="predict each layer's dense and sparse time, and from which sparsity on zeros pay",
    examples=(
        ("tesa analyze model.onnx", "with the zeros that the model has, on this machine"),
        ("tesa analyze model.onnx --impose 0.9:block=4x4", "what 90 % of zeros in blocks of 4x4 would gain"),
        ("tesa analyze model.onnx --impose 0.8 --impose conv1=0.5:2:4", "with another pattern for one layer"),
        ("tesa analyze model.onnx --target x86:znver5 --threads 2 --json", "for another device, for a program"),
    ),
    arguments=_arguments,
    run=_run,
)
