"""tesa list: what this installation knows."""

from argparse import ArgumentParser, Namespace

from tesa.cli.options import add_extension, use_extensions
from tesa.cli.verb import Outcome, Verb

KINDS = ("rules", "families", "policies", "patterns", "targets", "modes")

_OLD = {"schedules": "families"}  # what a kind was called before


def _arguments(parser: ArgumentParser) -> None:
    text = "what to list"
    parser.add_argument("kind", type=lambda t: _OLD.get(t, t), choices=KINDS, metavar="|".join(KINDS), help=text)
    add_extension(parser)


def _run(args: Namespace) -> Outcome:
    use_extensions(args)
    from tesa.report.listing import entries, entries_table
    from tesa.report.plain import plain

    found = entries(args.kind)
    return Outcome(plain(found), lambda: [entries_table(args.kind, found)])


VERB = Verb(
    name="list",
    help="list what tesa knows: propagation rules, kernel families, policies, patterns, targets, modes of tuning",
    examples=(
        ("tesa list families", "the kernel families, each with what it is good for"),
        ("tesa list targets", "names for --target, with their instruction set"),
        ("tesa list policies --extension mypolicy.py", "with those of a file of your own"),
        ("tesa list modes", "how `tesa tune` may choose candidates, for its --mode"),
        ("tesa list rules --json", "operators with a hand-written propagation rule, for a program"),
    ),
    arguments=_arguments,
    run=_run,
)
