"""A verb of the command line and its outcome."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tesa.cli.options import add_common

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Outcome:
    """The result of a verb: plain data for --json, and its view on a terminal, built only where it is shown.

    failure is one sentence if a check did not hold, or the work was stopped; the exit code is then code.
    """

    data: Any
    view: Callable[[], Iterable[RenderableType]]
    failure: str = ""
    code: int = 1


@dataclass(frozen=True)
class Verb:
    """One subcommand. examples: command lines, each with what it is for. Modules that take long to import are
    imported inside run, so that -h answers at once."""

    name: str
    help: str
    examples: tuple[tuple[str, str], ...]
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Outcome]

    @property
    def epilog(self) -> str:
        """The Examples section of -h."""
        return "Examples:\n" + "\n".join(f"  {line}\n      {purpose}" for line, purpose in self.examples)


def add_parser(
    parsers: Any, name: str, help: str, arguments: Callable[[ArgumentParser], None], epilog: str | None = None
) -> ArgumentParser:
    """Add a verb, or an action of one, to argparse's subparsers: its own arguments and those that every verb has."""
    parser: ArgumentParser = parsers.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    arguments(parser)
    add_common(parser)
    return parser
