"""tesa bundle: what an application needs beside a compiled model, in one folder."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tesa.cli.verb import Outcome, Verb


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="model.so", help="what tesa compile, or Kernel.save, wrote: .so, .o, .c, .wasm"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="new, empty, or an earlier bundle")
    wheels = "folder with wheels of apache-tvm and apache-tvm-ffi for the machine that the library is made for"
    parser.add_argument("--wheels", metavar="FOLDER", help=wheels)


def _run(args: Namespace) -> Outcome:
    from tesa.bundle.bundle import bundle
    from tesa.report.bundle import bundle_view
    from tesa.report.plain import plain

    made = bundle(Path(args.model), Path(args.output), Path(args.wheels) if args.wheels else None)
    return Outcome({"bytes": made.bytes, **plain({**vars(made), "path": str(made.path)})}, lambda: bundle_view(made))


VERB = Verb(
    name="bundle",
    help="gather what an application needs beside a compiled model, in one folder",
    examples=(
        ("tesa bundle model.so -o app", "the library, TVM's runtime, headers, licences, and a README with the code"),
        ("tesa bundle model.wasm -o app", "the module, and the JavaScript that runs it"),
        ("tesa bundle model.so -o app --wheels wheels", "for another kind of machine: its runtime out of wheels"),
    ),
    arguments=_arguments,
    run=_run,
)
