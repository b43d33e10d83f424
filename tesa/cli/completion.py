"""tesa completion: a script that lets a shell complete verbs, options, their choices, names and files."""

from __future__ import annotations

import re
import sys
from argparse import Action, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tesa.cli.completion_names import ending, functions, names_of
from tesa.cli.verb import Outcome, Verb
from tesa.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

SHELLS = ("bash", "zsh")

_FOLDERS = ("DIR", "FOLDER")
_FILES = ("FILE", "LOG", "MODEL")


def script(shell: str, parser: ArgumentParser) -> str:
    """The script of a shell for the command line that a parser reads. UsageError where shtab is missing."""
    try:
        import shtab
    except ImportError:
        raise UsageError("completion needs the package shtab, which is missing: pip install 'shtab>=1.7,<2'") from None
    for action in _actions(parser):
        kind, names = _kind(action), names_of(action)
        if names is not None:
            action.complete = names  # type: ignore[attr-defined]
        elif kind:
            action.complete = getattr(shtab, kind)  # type: ignore[attr-defined]
    made = str(shtab.complete(parser, shell=shell, preamble=functions(shell)))
    return made + ending() if shell == "bash" else made


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    """All arguments of a command line, those of its verbs and their actions, too."""
    for action in parser._actions:
        yield action
        if isinstance(action, _SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)


def _kind(action: Action) -> str:
    """The word of shtab for the values of an argument, by the one that stands for them in the help; "" for no files."""
    word = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices is not None or action.nargs == 0:
        return ""
    if word in _FOLDERS:
        return "DIRECTORY"
    return "FILE" if word in _FILES or re.search(r"\w\.[a-z]", word) else ""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="the shell that is to complete")


def _run(args: Namespace) -> Outcome:
    text = script(args.shell, args.whole)

    def view() -> Iterator[RenderableType]:
        sys.stdout.write(text)  # as it is: nothing may break its lines
        yield from ()

    return Outcome({"shell": args.shell, "script": text}, view)


VERB = Verb(
    name="completion",
    help="print a script with which a shell completes verbs, options, names and files: bash or zsh",
    examples=(
        ("tesa completion bash", 'as eval "$(tesa completion bash)" for this shell; in ~/.bashrc, for all to come'),
        ("tesa completion bash > ~/.local/share/bash-completion/completions/tesa", "the same, without a start of tesa"),
        ("tesa completion zsh > ~/.zfunc/_tesa", "with fpath+=~/.zfunc before compinit in ~/.zshrc"),
    ),
    arguments=_arguments,
    run=_run,
)
