"""The command line: `tesa VERB ...`. One file per verb; this one reads the line, runs the verb, shows the outcome.

Exit codes: 0 ok; 1 a check failed; 2 wrong use; 3 unsupported; 70 a defect of tesa itself; 130 stopped by Ctrl-C, 129
by SIGHUP, 143 by SIGTERM; 141 the reader of the output went away.
"""

import contextlib
import errno
import logging
import os
import re
import sys
import traceback
import warnings
from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from tesa.cli.output import Terminated, emit, guarded_stdout, say, stop_on_signals
from tesa.cli.streams import abandon_streams, flush, open_closed_streams, reader_gone
from tesa.cli.verb import Outcome, Verb, add_parser
from tesa.errors import TesaError, UsageError

_MODULES = (
    "doctor", "inspect", "analyze", "prune", "quantize", "explore", "propagate", "compile", "tune", "bundle", "run",
    "bench", "verify", "explain", "report", "calibrate", "devices", "logs", "listing",
    "completion",
)  # fmt: skip
VERBS: tuple[Verb, ...] = tuple(import_module(f"tesa.cli.{name}").VERB for name in _MODULES)
"""Every verb, in the order in which a user meets them."""

DEFECT, BROKEN_PIPE, INTERRUPTED = 70, 141, 130

_EXIT_CODES = """\
Exit codes: 0 ok, 1 a check failed, 2 wrong use, 3 unsupported, 70 a defect of tesa, 130 stopped by Ctrl-C,
129 by SIGHUP, 143 by SIGTERM, 141 the reader of the output went away.
`tesa VERB -h` shows the options of a verb and examples."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. argv is without the program's name; None takes sys.argv.

    >>> main(["inspect", "--shape", "image", "model.onnx"])
    2
    """
    words = list(sys.argv[1:] if argv is None else argv)
    open_closed_streams()
    try:
        code = _guarded(words)
        flush()
        return code
    except BrokenPipeError:  # whatever was printed: a view, -h, or a warning into `2>&1 | head`
        abandon_streams()
        return BROKEN_PIPE


def _guarded(words: Sequence[str]) -> int:
    """Run the words; what is raised becomes a message and an exit code."""
    try:
        with stop_on_signals() as raised:
            try:
                return _run(words)
            except Exception as error:
                if raised and not isinstance(
                    error, BrokenPipeError
                ):  # C++ that the signal came in says it in an error of its own
                    raise raised[-1] from error
                raise
    except SystemExit as stop:  # -h and --version end like this
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C; no half-written file was left behind", INTERRUPTED)
    except Terminated as stop:
        return _fail(f"stopped by {stop.name}; no half-written file was left behind", stop.code)
    except TesaError as error:
        return _fail(str(error), error.exit_code, error, words)
    except MemoryError as error:
        return _fail("there is not enough memory for this; free some, or give a smaller model", 2, error, words)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_gone():
            raise
        if isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
            return _fail(str(error), UsageError.exit_code, error, words)  # a file or disk of the user's
        text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return _fail(f"{text} (a defect of tesa; the same command with -vv shows where)", DEFECT, error, words)


def _warn(message: Warning | str, *_where: object, **_more: object) -> None:
    say(f"tesa: warning: {message}")


def _run(words: Sequence[str]) -> int:
    parser = _parser()
    args, unknown = parser.parse_known_args(words)
    if unknown:
        raise _unrecognized(parser, words, unknown)
    if args.verb is None:
        _parser().print_help(sys.stderr)
        return UsageError.exit_code
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(args.verbose, 2)]
    logging.basicConfig(level=level, stream=sys.stderr, format="tesa: %(levelname)s: %(message)s")
    warnings.showwarning = _warn
    with guarded_stdout(args.json), _tensors_up_to(getattr(args, "max_tensor", None)):
        outcome: Outcome = args.run(args)
    emit(outcome, as_json=args.json)
    return _fail(outcome.failure, outcome.code) if outcome.failure else 0


def _tensors_up_to(size: int | None) -> AbstractContextManager[None]:
    """The limit of --max-tensor for what is read inside; without the option the one that there is."""
    if size is None:
        return nullcontext()
    from tesa.frontend.giants import largest_tensor

    return largest_tensor(size)


def _fail(message: str, code: int, error: BaseException | None = None, words: Sequence[str] = ()) -> int:
    """Say it in one message on standard error, below the stack if -vv or TESA_DEBUG=1 asks for that."""
    letters = sum(word.count("v") for word in words if word.startswith("-v") and set(word) == {"-", "v"})
    stack = letters + words.count("--verbose") > 1 or os.environ.get("TESA_DEBUG") == "1"
    if error is not None and stack:
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
    say(f"tesa: error: {message}")
    return code


def _unrecognized(parser: ArgumentParser, words: Sequence[str], unknown: Sequence[str]) -> UsageError:
    """The error for words that the verb, or its action, has no place for; with the nearest options that it has."""
    for word in words:
        groups = (action.choices for action in parser._actions if isinstance(action, _SubParsersAction))
        parser = next((choices[word] for choices in groups if word in choices), parser)
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    wrong = [word.partition("=")[0] for word in unknown if word.startswith("--")]
    near = [found for word in wrong for found in get_close_matches(word, options, n=1)]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"unrecognized arguments: {' '.join(unknown)}{hint}; see {parser.prog} -h")


class _Parser(ArgumentParser):
    """Raises UsageError where argparse would print its own message and leave."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}{_near(message)}; see {self.prog} -h")


def _near(message: str) -> str:
    """The choice that may have been meant, for argparse's message of one that is none.

    >>> _near("argument VERB: invalid choice: 'compil' (choose from 'compile', 'tune')")
    "; did you mean 'compile'?"
    """
    found = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
    if found is None:
        return ""
    near = get_close_matches(found[1], re.findall(r"[\w-]+", found[2]), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class _Version(Action):
    """Prints the versions that decide what comes out, without importing what takes long."""

    def __call__(self, parser: ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        names = ("tesa", "apache-tvm", "apache-tvm-ffi")
        print(", ".join(f"{name} {version(name)}" for name in names))
        parser.exit()


def _parser() -> ArgumentParser:
    parser = _Parser(
        prog="tesa",
        description="Compiles neural networks with pruned weights into kernels made for exactly their sparsity.",
        epilog=_EXIT_CODES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions and exit")
    parser.set_defaults(whole=parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for verb in VERBS:
        add_parser(verbs, verb.name, verb.help, verb.arguments, epilog=verb.epilog).set_defaults(run=verb.run)
    return parser
