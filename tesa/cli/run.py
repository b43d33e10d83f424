"""tesa run: a compiled model on arrays from a file."""

from argparse import ArgumentParser, Namespace

from tesa.cli.options import add_threads
from tesa.cli.verb import Outcome, Verb


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.so", help="a compiled model")
    parser.add_argument("-i", "--input", required=True, metavar="IN.npz", help="an array for each input, by its name")
    parser.add_argument("-o", "--output", metavar="OUT.npz", help="where to write the outputs, by their names")
    add_threads(parser, default=None)


def _run(args: Namespace) -> Outcome:
    from tesa import runtime
    from tesa.cli.arrays import check_names, read_npz, write_npz
    from tesa.report.arrays import arrays_table, summaries
    from tesa.report.plain import plain

    feeds = read_npz(args.input)
    model = runtime.load(args.model, threads=args.threads)
    check_names(feeds, [info.name for info in model.inputs], args.input)
    results = model(feeds)
    if args.output is not None:
        write_npz(args.output, results)
    found = summaries(results)
    return Outcome({"output": args.output, "outputs": plain(found)}, lambda: [arrays_table(found)])


VERB = Verb(
    name="run",
    help="run a compiled model on arrays from an .npz file",
    examples=(
        ("tesa run model.so -i in.npz -o out.npz", "one array per input in, one per output out, by their names"),
        ("tesa run model.so -i in.npz --json", "only look: shape, dtype, range of each output"),
    ),
    arguments=_arguments,
    run=_run,
)
