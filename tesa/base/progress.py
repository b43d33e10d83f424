"""Tells how far a long job is: a bar on a terminal, plain lines in a log, nothing where nobody asked."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TextIO, TypeVar, cast

from tesa.base.notebook_bar import NotebookBar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Event:
    """`done` of `total` steps of a phase are finished; text names the one at work. total is 0 where it is unknown.

    A notice is no step: its text is shown at once, and stays.

    >>> Event("measure", 3, 12, "block3.pointwise")
    Event(phase='measure', done=3, total=12, text='block3.pointwise', notice=False)
    """

    phase: str
    done: int
    total: int
    text: str = ""
    notice: bool = False


_TOLD: ContextVar[bool] = ContextVar("_TOLD", default=False)
"""True inside a job that tells of itself: what it calls draws no bar of its own."""

Progress = Callable[[Event], None]
"""A function that a long job calls now and then. It must be quick, and must not be called from two threads at once."""


def silent(event: Event) -> None:
    """Show nothing."""


def plain(stream: TextIO, *, every_s: float = 2.0, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Write a line at the start and end of each phase and at most one in every_s seconds between them.

    >>> import sys
    >>> show = plain(sys.stdout)
    >>> show(Event("measure", 0, 2, "conv1"))
    measure 0/2 conv1
    >>> show(Event("measure", 1, 2, "conv2"))
    >>> show(Event("measure", 2, 2))
    measure 2/2
    """
    phase, written = "", -every_s

    def show(event: Event) -> None:
        nonlocal phase, written
        now = clock()
        if event.notice or event.phase != phase or now - written >= every_s or 0 < event.total <= event.done:
            phase, written = event.phase, now
            count = f"{event.done}/{event.total}" if event.total else ""
            phrase = "" if event.notice and event.text.startswith(f"{phase} ") else phase
            print(" ".join(word for word in (phrase, count, event.text) if word), file=stream, flush=True)

    return show


def notices(progress: Progress, kept: dict[str, None] | None = None) -> Callable[[str], None]:
    """A function that tells of a device as a notice. kept: gets each sentence once, to repeat it at the end.

    >>> import sys
    >>> notices(plain(sys.stdout))("pi5 is gone")
    device pi5 is gone
    """

    def tell(text: str) -> None:
        progress(Event("device", 0, 0, text, notice=True))
        if kept is not None:
            kept[text] = None

    return tell


def noticed(event: Event) -> str:
    """A notice as a sentence, with its phase in front where it does not begin with that itself.

    >>> noticed(Event("device", 0, 0, "device pi5 is gone")), noticed(Event("tune", 0, 0, "2 threads, 1 CPU"))
    ('device pi5 is gone', 'tune: 2 threads, 1 CPU')
    """
    return event.text if event.text.startswith(f"{event.phase} ") else f"{event.phase}: {event.text}"


@contextmanager
def bar(stream: TextIO) -> Iterator[Progress]:
    """Draw one bar for each phase on a terminal, with the expected time to its end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    tasks: dict[str, int] = {}
    with Bars(*columns, console=Console(file=stream, force_jupyter=False)) as bars:

        def show(event: Event) -> None:
            if event.notice:
                bars.console.print(noticed(event), markup=False, highlight=False)
                return
            if event.phase not in tasks:
                tasks[event.phase] = bars.add_task(event.phase, total=event.total or None, text="")
            task = bars.tasks[tasks[event.phase]]
            bars.update(task.id, completed=event.done, total=event.total or None, text=event.text)

        yield show


@contextmanager
def shown(stream: TextIO, *, quiet: bool = False) -> Iterator[Progress]:
    """The renderer that fits: silent if quiet, a bar if the stream is a terminal, plain lines otherwise."""
    with _told():
        if quiet:
            yield silent
        elif stream.isatty():
            with bar(stream) as show:
                yield show
        else:
            yield plain(stream)


@contextmanager
def _told() -> Iterator[bool]:
    """True, inside, for what is called from there; it gives what it was outside."""
    outside = _TOLD.get()
    token = _TOLD.set(True)
    try:
        yield outside
    finally:
        _TOLD.reset(token)


def automatic(event: Event) -> None:
    """Show a bar where someone looks, in a terminal or a notebook, and nothing elsewhere: the default of long jobs.

    It stands for the renderer that telling() makes; called itself it shows nothing.
    """


@contextmanager
def telling(progress: Progress | None) -> Iterator[Progress]:
    """The renderer that a caller's argument means: None is silence, automatic a bar where someone looks.

    Inside another job automatic is silence: that one tells how far it is.

    >>> with telling(None) as show:
    ...     show(Event("measure", 0, 2))
    """
    with _told() as inside:
        if progress is None:
            yield silent
        elif progress is not automatic:
            yield progress
        elif not inside and in_notebook():
            with _notebook() as show:
                yield show
        elif not inside and sys.stderr.isatty():
            with bar(sys.stderr) as show:
                yield show
        else:
            yield silent


@contextmanager
def _notebook() -> Iterator[Progress]:
    from IPython.display import display

    with NotebookBar(display) as drawn:

        def show(event: Event) -> None:
            if event.notice:
                drawn.notice(noticed(event))
            else:
                drawn.step(event.phase, event.done, event.total, event.text)

        yield show


def shows_progress(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a long job that takes `progress`: not given it is a bar where someone looks, and None is silence.

    >>> @shows_progress
    ... def job(*, progress=automatic):
    ...     progress(Event("build", 1, 1))
    ...     return "done"
    >>> job(progress=None)
    'done'
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with telling(cast("Progress | None", kwargs.get("progress", automatic))) as show:
            kwargs["progress"] = show
            return function(*args, **kwargs)

    return run


def in_notebook() -> bool:
    """True in a kernel of Jupyter, whose front end draws what is displayed.

    >>> in_notebook()
    False
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
