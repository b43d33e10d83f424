"""tesa calibrate: measures the cost table of this machine."""

import sys
from argparse import ArgumentParser, Namespace

from tesa.cli.options import add_extension, add_target, add_threads, minutes, positive, use_extensions
from tesa.cli.output import Terminated
from tesa.cli.verb import Outcome, Verb


def _arguments(parser: ArgumentParser) -> None:
    add_target(parser, "its code must run here")
    add_threads(parser, default=1)
    parser.add_argument(
        "--minutes", type=minutes, default=14.0, metavar="M",
        help="how long to measure (default: 14); to learn from it takes up to a minute more",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the table (default: this machine's, in the user's data folder)"
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="processes that compile kernels (default: all CPUs)")
    add_extension(parser)


def _run(args: Namespace) -> Outcome:
    use_extensions(args)
    from tesa.base.progress import shown
    from tesa.costs import store
    from tesa.report.calibrate import calibration_data, calibration_view
    from tesa.tune.calibrate import calibrate

    try:
        with shown(sys.stderr, quiet=args.quiet or args.json) as progress:
            made = calibrate(
                args.target,
                threads=args.threads,
                minutes=args.minutes,
                path=args.output,
                jobs=args.jobs,
                progress=progress,
            )
    except (KeyboardInterrupt, Terminated):
        kept = store.kept(args.target, args.threads, args.output)
        print(f"tesa: {kept}; the same command goes on from there", file=sys.stderr)
        raise
    return Outcome(calibration_data(made), lambda: calibration_view(made))


VERB = Verb(
    name="calibrate",
    help="measure the cost table of this machine, and say how well it predicts",
    examples=(
        ("tesa calibrate", "for one thread, in a quarter of an hour; Ctrl-C keeps what is measured"),
        ("tesa calibrate --minutes 30", "once more: a second run goes on where the first one ended"),
        ("tesa calibrate --threads 2 -o tables.json", "for two threads, into a file of your own"),
    ),
    arguments=_arguments,
    run=_run,
)
