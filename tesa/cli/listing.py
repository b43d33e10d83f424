"""tesa list: what this installation knows."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from tesa.cli.verb import Outcome, Verb

KINDS = ("rules", "schedules", "policies", "patterns", "targets", "modes")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="|".join(KINDS), help="what to list")


def _run(args: Namespace) -> Outcome:
    from tesa.report.listing import entries, entries_table
    from tesa.report.plain import plain

    found = entries(args.kind)
    return Outcome(plain(found), lambda: [entries_table(args.kind, found)])


VERB = Verb(
    name="list",
    help="list what tesa knows: propagation rules, schedules, policies, patterns, targets, modes of tuning",
    examples=(
        ("tesa list schedules", "the kernel families, each with what it is good for"),
        ("tesa list targets", "names for --target, with their instruction set"),
        ("tesa list modes", "how `tesa tune` may choose candidates, for its --mode"),
        ("tesa list rules --json", "operators with a hand-written propagation rule, for a program"),
    ),
    arguments=_arguments,
    run=_run,
)
