"""tesa verify: does a compiled model compute what the original computes."""

from argparse import ArgumentParser, Namespace

from tesa.cli.opened import add_place, opened, source_of
from tesa.cli.options import tolerance
from tesa.cli.verb import Outcome, Verb
from tesa.errors import UsageError


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a compiled model, or an ONNX file, which is compiled first")
    ref = "the model it was compiled from (default: the ONNX file itself, where that is what is given)"
    parser.add_argument("--ref", metavar="model.onnx", help=ref)
    parser.add_argument("--mask", metavar="MASKS.npz", help="the masks that it was compiled with")
    parser.add_argument("--per-layer", action="store_true", help="compare the result of every layer too")
    parser.add_argument("-i", "--input", metavar="IN.npz", help="arrays to compare on (default: random ones)")
    usual = "(default: by the numbers that the network computes with, and onnxruntime's own noise)"
    parser.add_argument("--atol", type=tolerance, metavar="X", help=f"absolute tolerance {usual}")
    parser.add_argument(
        "--rtol", type=tolerance, metavar="X", help="relative tolerance; 1e-3 where --atol alone is given"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs (default: 0)")
    add_place(parser)


def _run(args: Namespace) -> Outcome:
    from tesa import runtime
    from tesa.cli.arrays import read_inputs
    from tesa.report.verify import verify_view

    ref = source_of(args, args.ref)
    if ref is None:
        raise UsageError("name the model that it was compiled from: --ref model.onnx")
    with opened(args, mask=args.mask, times=False) as model:
        result = runtime.verify(
            model,
            ref,
            per_layer=args.per_layer,
            atol=args.atol,
            rtol=args.rtol,
            seed=args.seed,
            feeds=read_inputs(args.input, model),
            masks=args.mask,
        )
    from tesa.report.plain import plain

    wrong = [item.name for item in (*result.outputs, *result.layers) if not item.ok]
    failure = f"{args.model} and {ref} differ in {', '.join(wrong)}" if wrong else ""
    if failure and args.mask is None and any("the user's mask" in f for row in model.plan.layers for f in row.facts):
        failure += "; it was compiled with masks, give them with --mask"
    return Outcome(plain(result.to_json()), lambda: verify_view(result), failure)


VERB = Verb(
    name="verify",
    help="compare what a compiled model computes with onnxruntime on the original",
    examples=(
        ("tesa verify model.so --ref model.onnx", "every output; exit code 1 if one differs"),
        ("tesa verify model.so --ref model.onnx --per-layer", "every layer too: where does the difference begin"),
        ("tesa verify model.so --ref model.onnx --mask masks.npz", "a model that was compiled with these masks"),
        ("tesa verify model.so --ref model.onnx -i in.npz --atol 1e-5", "on real inputs, more strictly"),
        ("tesa verify model.so --ref model.onnx --rpc HOST:PORT --key pi5", "what it computes on a device"),
        ("tesa verify model.onnx --target aarch64:cortex-a76", "compiled first, in an emulator if there is one"),
    ),
    arguments=_arguments,
    run=_run,
)
