"""tesa compile: an ONNX model becomes a library with a kernel made for each weight."""

import sys
from argparse import ArgumentParser, Namespace

from tesa.cli.options import add_kernels, chosen, positive, use_extensions
from tesa.cli.verb import Outcome, Verb


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx", help="the model to compile")
    parser.add_argument("-o", "--output", required=True, metavar="model.so", help="the library, with model.json beside")
    add_kernels(parser)
    pad = (
        "dimension along which inputs may be shorter than a size: zeros are put behind them, outputs are cut; for "
        "models that mask them. May be repeated"
    )
    parser.add_argument("--pad", action="append", default=[], metavar="DIMENSION", help=pad)
    parser.add_argument("--no-measure", action="store_true", help="choose by estimate what the log does not know")
    families = "only this kernel family competes; may be repeated (see `tesa list families`)"
    parser.add_argument("--family", "--form", action="append", metavar="NAME", help=families)
    form = (
        "vm (for TVM's virtual machine), or without a runtime, with a C header: so, o, c, wasm (default: by the suffix)"
    )
    parser.add_argument("--format", metavar="FORMAT", help=form)
    storage = "type that weights of layers for a few columns may be rounded to, where it is faster (default: float32)"
    parser.add_argument("--storage", choices=("float32", "float16", "bfloat16"), default="float32", help=storage)
    sums = (
        "float16 allows sums of float16 where they are faster, on a CPU that has them: weights, inputs of layers and "
        "sums are rounded to it. On GPUs also bfloat16 and tfloat32, which matrix units multiply, and sums of their "
        "products may be float32 (default: float32)"
    )
    parser.add_argument(
        "--arithmetic", choices=("float32", "float16", "bfloat16", "tfloat32"), default="float32", help=sums
    )
    budget = (
        "straight-line instructions that the measured candidates of a layer may have together, 10 us each (default: "
        "400000); what a log already knows competes whatever its size"
    )
    parser.add_argument("--code-budget", type=positive, metavar="N", help=budget)
    most = "bytes that the code and constants of all kernels may have together: smaller ones are taken where needed"
    parser.add_argument("--max-bytes", type=positive, metavar="N", help=most)
    parser.add_argument("--dump-dir", metavar="DIR", help="write the module after each phase there, as text")


def _run(args: Namespace) -> Outcome:
    use_extensions(args)
    from tesa.base.progress import shown

    with shown(sys.stderr, quiet=args.quiet or args.json) as progress:
        from tesa.compiler import compile_model
        from tesa.report.plain import plain
        from tesa.report.plan import compiled_view

        compiled = compile_model(
            args.model,
            output=args.output,
            pad=args.pad,
            measure=not args.no_measure,
            families=args.family,
            storage=args.storage,
            arithmetic=args.arithmetic,
            code_budget=args.code_budget,
            max_bytes=args.max_bytes,
            dump_dir=args.dump_dir,
            format=args.format,
            **chosen(args),
            progress=progress,
        )
    return Outcome({"bytes": compiled.path.stat().st_size, **plain(compiled)}, lambda: compiled_view(compiled))


VERB = Verb(
    name="compile",
    help="compile an ONNX model into a library for one target",
    examples=(
        ("tesa compile model.onnx -o model.so", "for this machine, one thread; kernels are chosen by measured time"),
        ("tesa compile model.onnx -o model.so --threads 2 --log logs", "for two threads; keep the measured times"),
        ("tesa compile model.onnx -o model.so --target x86:haswell --no-measure", "for another CPU, by estimate"),
        (
            "tesa compile model.onnx -o model.so --target aarch64:cortex-a76",
            "for an ARM board, linked by a cross compiler or zig; kernels are checked in an emulator if there is one",
        ),
        (
            "tesa compile model.onnx -o model.so --target aarch64:cortex-a76 --rpc HOST:PORT --key pi5",
            "measured on a device",
        ),
        ("tesa compile model.onnx -o model.so --shape image=1,3,224,224", "where the file leaves a size open"),
        (
            "tesa compile model.onnx -o model.so --shape batch=1 --shape tokens=16,64,128",
            "for three sizes, in one library",
        ),
        (
            "tesa compile model.onnx -o model.so --shape batch=1 --shape tokens=128 --pad tokens",
            "and for all that are less",
        ),
        (
            "tesa compile model.onnx -o model.so --storage float16",
            "weights may be rounded to 16 bits where that is faster",
        ),
        ("tesa compile model.onnx -o model.so --format so", "one C function, without a runtime; model.h says how"),
        ("tesa compile model.onnx -o model.so --max-bytes 200000", "with smaller kernels where these have more bytes"),
        ("tesa compile model.onnx -o model.so --mask masks.npz", "with weights pruned first"),
    ),
    arguments=_arguments,
    run=_run,
)
