"""tesa logs: what was measured, looked at, merged and tidied up."""

from __future__ import annotations

import re
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tesa.cli.options import positive
from tesa.cli.verb import Outcome, Verb, add_parser
from tesa.errors import UsageError

if TYPE_CHECKING:
    from tesa.records.format import IndexEntry


def _arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="|".join(_ACTIONS), title="actions", required=True)
    for name, (help_text, arguments, run) in _ACTIONS.items():
        sub = add_parser(verbs, name, help_text, arguments, epilog=_epilog(name))
        for option in sub._actions:
            if option.dest in ("json", "quiet", "verbose"):  # what stands before the action counts as well
                option.default = SUPPRESS
        sub.set_defaults(act=run)


def _epilog(name: str) -> str:
    """The examples of one action."""
    return replace(VERB, examples=tuple(row for row in VERB.examples if row[0].split()[2] == name)).epilog


def _add_places(parser: ArgumentParser) -> None:
    parser.add_argument("places", nargs="*", metavar="LOG", help="folders of logs, or .jsonl files")
    _add_log(parser)


def _add_log(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--log", action="append", default=[], metavar="DIR", help="a folder or file; may be repeated (default: your own"
        " logs and those that ship with tesa)",
    )  # fmt: skip


def _ls(args: Namespace) -> Outcome:
    from tesa.records.maintenance import summarize
    from tesa.report.logs import summaries_json, summaries_view

    places = _places(args)
    found = [summarize(path) for path in _files(places, given=_given(args))]
    return Outcome(summaries_json(found), lambda: summaries_view(found, [str(place) for place in places]))


def _show_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", metavar="WHAT", help="the first digits of a task's key or of a weight's digest; with"
        " --model: the name of a layer; without it: everything",
    )  # fmt: skip
    parser.add_argument("--model", metavar="model.so", help="a compiled model (or its model.json) that has the layer")
    parser.add_argument("--family", "--schedule", metavar="NAME", help="only this kernel family")
    parser.add_argument("--target", metavar="T", help="only this target")
    parser.add_argument("--failed", action="store_true", help="only what failed, with the reason")
    parser.add_argument("--all", action="store_true", help="also what a later record has taken the place of")
    parser.set_defaults(places=[])
    _add_log(parser)


def _show(args: Namespace) -> Outcome:
    from tesa.records.log import Log, read_entries
    from tesa.records.maintenance import identity
    from tesa.report.logs import record_json, records_view

    wanted, words = _wanted(args)
    entries = [entry for path in _files(_places(args), given=_given(args)) for entry in read_entries(path)]
    target = _target(args.target, entries)
    last = {identity(entry): id(entry) for entry in entries}
    chosen = [
        entry
        for entry in entries
        if wanted(entry)
        and (args.all or last[identity(entry)] == id(entry))
        and not (args.failed and entry.ok)
        and (target is None or entry.target == target)
        and (args.family is None or entry.option.startswith(args.family + "{"))
    ]
    if not chosen and args.what is not None and not any(map(wanted, entries)):
        raise UsageError(f"no record of {words} among {len(entries)}; `tesa logs best` lists all tasks with their keys")
    records = [record for record in map(Log().record, chosen) if record is not None]
    return Outcome([record_json(record) for record in records], lambda: records_view(records, words))


def _wanted(args: Namespace) -> tuple[Callable[[IndexEntry], bool], str]:
    """A test for the entries that are meant, and these in words."""
    if args.model is not None:
        from tesa.cli.explain import find_layer, read_plans

        if args.what is None:
            raise UsageError("--model goes with the name of a layer: tesa logs show LAYER --model model.so")
        plans = read_plans(Path(args.model)).values()
        digests = frozenset().union(*(find_layer(plan, args.what, args.model).digests for plan in plans))
        return lambda entry: entry.digest in digests, f"layer {args.what}"
    if args.what is None:
        return lambda entry: True, "anything"
    prefix = args.what.lower()
    if not re.fullmatch("[0-9a-f]{1,16}", prefix):
        raise UsageError(
            f"{args.what!r} is not the beginning of a key or digest (up to 16 hexadecimal digits); a layer goes with"
            " --model model.so, a log with --log DIR"
        )
    return lambda entry: entry.digest.startswith(prefix) or entry.key.startswith(prefix), prefix


def _best_arguments(parser: ArgumentParser) -> None:
    _add_places(parser)
    parser.add_argument("--target", metavar="T", help="only this target")


def _best(args: Namespace) -> Outcome:
    from tesa.records.log import Log
    from tesa.report.logs import best_json, best_of_each, best_view

    places = _places(args)
    _files(places, given=_given(args))  # a place that was named must be there
    log = Log.load(*places)
    found = best_of_each(log, _target(args.target, log.entries()))
    return Outcome(best_json(found), lambda: best_view(found))


def _merge_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("places", nargs="+", metavar="LOG", help="folders of logs, or .jsonl files")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.jsonl", help="the file to write")
    parser.set_defaults(log=[])


def _merge(args: Namespace) -> Outcome:
    from rich.text import Text

    from tesa.records.maintenance import merge
    from tesa.report.logs import merged_text
    from tesa.report.plain import plain

    done = merge(_files(_places(args), given=True), Path(args.output))
    return Outcome(plain(done), lambda: [Text(merged_text(done))])


def _prune_arguments(parser: ArgumentParser) -> None:
    _add_places(parser)
    group = parser.add_argument_group("what goes (without any of these: --superseded --unreadable)")
    group.add_argument(
        "--superseded", action="store_true", help="what a later record of the same task and configuration replaced"
    )
    group.add_argument("--failed", action="store_true", help="what could not be built, ran wrong or not at all")
    group.add_argument("--unreadable", action="store_true", help="torn lines; those of another version always stay")
    group.add_argument(
        "--older-than", type=_age, metavar="AGE", help="measured before that: 30d, 12h, 4w, or a day as in 2026-01-31"
    )
    group.add_argument(
        "--best", type=positive, metavar="K", help="all but the K fastest of each task, target and device"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing, only say what would go")


def _prune(args: Namespace) -> Outcome:
    from tesa.records.locations import user
    from tesa.records.maintenance import Rule, prune
    from tesa.report.logs import pruned_json, pruned_view

    rule = Rule(args.superseded, args.failed, args.unreadable, args.best, args.older_than)
    if rule == Rule():
        rule = Rule(superseded=True, unreadable=True)
    files = _files(_places(args), given=True) if _given(args) else _files([user()], given=False)
    done = [prune(path, rule, dry_run=args.dry_run) for path in files]
    return Outcome(pruned_json(done, args.dry_run), lambda: pruned_view(done, args.dry_run))


def _age(text: str) -> datetime:
    from tesa.records.maintenance import parse_age

    try:
        return parse_age(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no age: write 30d, 12h, 4w, 90m, or a day as in 2026-01-31") from None


def _target(text: str | None, entries: Iterable[IndexEntry]) -> str | None:
    """The name that a target has in the records. UsageError if none is of it."""
    if text is None:
        return None
    from tesa.targets.target import parse_target

    known = {entry.target for entry in entries}
    name = text if text in known else parse_target(text).name
    if name not in known:
        raise UsageError(f"no record of target {name}; there are records of {', '.join(sorted(known)) or 'none'}")
    return name


def _given(args: Namespace) -> bool:
    return bool(args.places or args.log)


def _places(args: Namespace) -> list[Path]:
    """The places that the user named, or those that `tesa compile` reads without --log."""
    if _given(args):
        return [Path(place) for place in (*args.places, *args.log)]
    from tesa.records.locations import shipped, user

    return [shipped(), user()]


def _files(places: list[Path], *, given: bool) -> list[Path]:
    """The files of all places, each once. UsageError for a place that was named and is not there."""
    from tesa.records.files import files

    found: dict[Path, None] = {}
    for place in places:
        if given and not place.exists():
            raise UsageError(f"there is no tuning log {place}; give a folder of logs, or a file that ends in .jsonl")
        found.update(dict.fromkeys(files(place)))
    return list(found)


_ACTIONS: dict[str, tuple[str, Callable[[ArgumentParser], None], Callable[[Namespace], Outcome]]] = {
    "ls": ("list the files: records, devices, targets, span of time, failures", _add_places, _ls),
    "show": ("show the records of a task, a weight or a layer", _show_arguments, _show),
    "best": ("show the fastest kernel of each task", _best_arguments, _best),
    "merge": ("make one file of several, each record once", _merge_arguments, _merge),
    "prune": ("drop records that are of no more use", _prune_arguments, _prune),
}

VERB = Verb(
    name="logs",
    help="look at what was measured, merge and prune it: ls, show, best, merge, prune",
    examples=(
        ("tesa logs ls", "your own logs, and those that ship with tesa"),
        ("tesa logs best --target x86:znver5", "the fastest known kernel of every task"),
        ("tesa logs show 028a --failed", "what failed for the task or weight whose key or digest begins like this"),
        ("tesa logs show block3.pointwise --model model.so --log night/", "what was measured for a layer"),
        ("tesa logs merge monday.jsonl tuesday/ -o znver5.jsonl", "one file, each record once"),
        ("tesa logs prune night/ --best 8 --dry-run", "what would go if only the 8 fastest of each task stayed"),
    ),
    arguments=_arguments,
    run=lambda args: args.act(args),
)
