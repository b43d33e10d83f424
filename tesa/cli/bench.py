"""tesa bench: how long a compiled model takes, alone or next to another engine."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tesa.cli.opened import add_place, opened, source_of
from tesa.cli.options import add_threads, positive
from tesa.cli.verb import Outcome, Verb

_PEERS = ("onnxruntime",)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a compiled model, or an ONNX file, which is compiled first")
    parser.add_argument("-i", "--input", metavar="IN.npz", help="arrays to run it on (default: random ones)")
    parser.add_argument("--vs", action="append", default=[], choices=_PEERS, help="time this engine in turn with it")
    parser.add_argument(
        "--model", dest="onnx", metavar="model.onnx", help="what the other engine runs (default: the .onnx beside)"
    )
    parser.add_argument("--profile", action="store_true", help="time every layer too")
    parser.add_argument("--repeat", type=positive, default=50, metavar="N", help="rounds (default: 50)")
    add_threads(parser, default=None)
    parser.add_argument("--mask", metavar="MASKS.npz", help="of an ONNX file, the masks to compile it with")
    add_place(parser)


def _run(args: Namespace) -> Outcome:
    from tesa import runtime
    from tesa.cli.arrays import read_inputs
    from tesa.report.bench import bench_view
    from tesa.runtime.bench import onnx_beside

    source = source_of(args, args.onnx)
    if args.vs and source is None:
        source = onnx_beside(Path(args.model))
    with opened(args, threads=args.threads, mask=args.mask, times=True) as model:
        feeds = read_inputs(args.input, model)
        results = {
            str(size): runtime.bench(
                model if feeds is not None else model.at(size),
                repeat=args.repeat,
                feeds=feeds,
                peers=args.vs,
                onnx=source,
                threads=args.threads,
                profile=args.profile,
            )
            for size in (model.sizes if feeds is None else model.sizes[:1])
        }
    if len(results) == 1:
        (result,) = results.values()
        return Outcome(result.to_json(), lambda: bench_view(result))
    rows = [{"size": size, **result.to_json()} for size, result in results.items()]
    views = (view for size, result in results.items() for view in bench_view(result, size))
    return Outcome({"sizes": rows}, lambda: views)


VERB = Verb(
    name="bench",
    help="time a compiled model, here or on a device, alone or in turn with another engine",
    examples=(
        ("tesa bench model.so", "median, minimum and spread"),
        ("tesa bench model.so --vs onnxruntime", "next to onnxruntime, in turn, on the same inputs"),
        ("tesa bench model.so --vs onnxruntime --model m.onnx", "where the ONNX file has another name than model.onnx"),
        ("tesa bench model.so --profile --repeat 200", "the time of every layer too"),
        ("tesa bench model.so --rpc HOST:PORT --key pi5", "a model for another machine, on a device of a tracker"),
        ("tesa bench model.onnx --target aarch64:cortex-a76 --rpc HOST:PORT --key pi5", "compiled for it first"),
        ("tesa bench model.onnx --target wasm32", "in Node.js"),
    ),
    arguments=_arguments,
    run=_run,
)
