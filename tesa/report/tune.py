"""A tuning job: live while it runs, and what it gained at its end."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tesa.base.progress import Event, Progress, plain, silent
from tesa.report.numbers import NOTHING, counted, milliseconds, ratio
from tesa.report.plan import duration
from tesa.report.table import table
from tesa.tune.status import Status, Tuned, TunedLayer, Watch, unseen

_COLUMNS = ("layer", "default ms", "best ms", "gain", "family", "configuration", "dense ms", "measured")
_NUMBERS = ("default ms", "best ms", "gain", "dense ms", "measured")
_LIVE = ("layer", "measured", "failed", "default ms", "best ms", "gain", "family")
_LIVE_NUMBERS = ("measured", "failed", "default ms", "best ms", "gain")
_BESIDE = 6  # lines of the live view that are no rows of the table
_EVERY_S = 5.0


def tuned_view(tuned: Tuned) -> Iterator[RenderableType]:
    """The gain of each layer over the untuned default, that of the whole, and what went wrong."""
    title = (
        f"Tuned for {tuned.target}, {counted(tuned.threads, 'thread')}, measured on {tuned.device.get('cpu', NOTHING)}"
    )
    yield table(_COLUMNS, [_row(layer) for layer in tuned.layers], title=title, right=_NUMBERS)
    yield Text(_summary(tuned))
    if any(layer.best_ms is not None and not layer.final for layer in tuned.layers):
        yield Text("~: of a single measurement; the last comparison with the default is missing")
    for note in tuned.notes:
        yield Text(note)


def _row(layer: TunedLayer) -> tuple[str, ...]:
    mark = "" if layer.final or layer.best_ms is None else "~"
    config = " ".join(f"{key}={value}" for key, value in layer.best[1].items()) if layer.best else NOTHING
    return (
        _named(layer.name, layer.layers),
        milliseconds(layer.default_ms),
        mark + milliseconds(layer.best_ms),
        ratio(layer.gain),
        layer.best[0] if layer.best else NOTHING,
        config or NOTHING,
        milliseconds(layer.dense_ms),
        f"{layer.trials}/{layer.total}"
        + (f", {layer.failed} failed" if layer.failed else "")
        + (f", {layer.given_up} given up" if layer.given_up else ""),
    )


def _summary(tuned: Tuned) -> str:
    """The gain of all: the geometric mean over layers, and that of their times together."""
    known = [layer for layer in tuned.layers if layer.gain is not None]
    words = f"{counted(tuned.measured, 'measurement')} in {_seconds(tuned.seconds)}"
    if tuned.compared:
        words += f", {tuned.compared} of them to compare the best of each layer once more"
    if not tuned.measured and not tuned.stopped and all(layer.trials for layer in tuned.layers):
        words = "nothing to measure: the log has what the budget allows, give more --trials or --minutes to go on"
        if all(layer.trials == layer.total for layer in tuned.layers):
            words = "nothing to measure: the log has all candidates"
    if not known:
        return f"{words}; no layer has a time yet"
    mean = math.exp(sum(math.log(layer.gain or 1.0) for layer in known) / len(known))
    before = sum(layer.layers * (layer.default_ms or 0.0) for layer in known)
    after = sum(layer.layers * (layer.best_ms or 0.0) for layer in known)
    return (
        f"{words}; gain {ratio(mean)} (geometric mean of {counted(len(known), 'layer')}); "
        f"all layers together {duration(before)} -> {duration(after)}"
    )


@contextmanager
def shown_status(
    stream: TextIO, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[Progress, Watch]]:
    """(display of the model's import, display of the job after it).

    One picture that changes on a terminal, plain lines elsewhere, nothing if quiet.
    """
    if quiet:
        yield silent, unseen
    elif stream.isatty():
        with _live(Console(file=stream, force_jupyter=False)) as both:
            yield both
    else:
        yield plain(stream, clock=clock), lines(stream, clock=clock)


def lines(stream: TextIO, *, clock: Callable[[], float] = time.monotonic, every_s: float = _EVERY_S) -> Watch:
    """Write a line at the start and end of each phase, and at most one in every_s seconds between them."""
    phase, written, whole = "", -every_s, False

    def watch(status: Status) -> None:
        nonlocal phase, written, whole
        end = status.done == status.total and not whole
        if status.phase != phase or clock() - written >= every_s or end:
            phase, written, whole = status.phase, clock(), status.done == status.total
            print(status_line(status), file=stream, flush=True)

    return watch


def status_line(status: Status) -> str:
    """A job in one line.

    >>> layer = TunedLayer("fc", 1, 12, 1, 90, default_ms=0.5, best=("indexed", {}), best_ms=0.4)
    >>> status_line(Status("search", 12, 64, 0, 1, 30.0, 130.0, "fc", (layer,)))
    'tune 12/64, 1 failed, about 2 min left; fc: indexed 0.400 ms, default 0.500 ms'
    """
    words = f"tune {status.done}/{status.total}, {status.failed} failed"
    if status.left_s is not None:
        words += f", about {_seconds(status.left_s)} left"
    if status.phase == "compare":
        words += ", last comparison"
    row = next((item for item in status.layers if item.name == status.layer), None)
    if row is None or row.best is None or row.best_ms is None:
        return f"{words}; {status.layer}"
    return f"{words}; {row.name}: {row.best[0]} {duration(row.best_ms)}, default {duration(row.default_ms)}"


@contextmanager
def _live(console: Console) -> Iterator[tuple[Progress, Watch]]:
    from rich.live import Live

    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def progress(event: Event) -> None:
            if event.notice:
                console.print(f"{event.phase}: {event.text}", markup=False, highlight=False)
                return
            live.update(Text(" ".join(word for word in (event.phase, event.text) if word)))

        def watch(status: Status) -> None:
            live.update(live_view(status, console.size.height))

        yield progress, watch


def live_view(status: Status, height: int) -> RenderableType:
    """The job on a terminal with that many lines: a bar, and the layers around the one at work."""
    head = Table.grid(padding=(0, 1))
    known = f" ({status.known} of them in the log before)" if status.known else ""
    left = "" if status.left_s is None else f", about {_seconds(status.left_s)} left"
    what = "comparing the best once more" if status.phase == "compare" else "tuning"
    text = f"{status.done}/{status.total}{known}, {status.failed} failed, {_seconds(status.seconds)}{left}"
    head.add_row(Text(what), ProgressBar(max(status.total, 1), status.done, width=30), Text(text))
    rows = _around(status.layers, status.layer, max(1, height - _BESIDE))
    shown = [_live_row(row, row.name == status.layer) for row in rows]
    more = len(status.layers) - len(rows)
    parts: list[Any] = [head, table(_LIVE, shown, right=_LIVE_NUMBERS)]
    if more:
        parts.append(Text(f"and {more} more layer{'s' if more > 1 else ''}", style="dim"))
    return Group(*parts)


def _live_row(row: TunedLayer, at_work: bool) -> list[Text]:
    cells = (
        _named(row.name, row.layers), f"{row.trials}/{row.total}", str(row.failed), milliseconds(row.default_ms),
        milliseconds(row.best_ms), ratio(row.gain), row.best[0] if row.best else NOTHING,
    )  # fmt: skip
    return [Text(cell, style="bold" if at_work else "") for cell in cells]


def _around(rows: Sequence[TunedLayer], name: str, count: int) -> Sequence[TunedLayer]:
    """As many rows as there is room for, with that of the layer at work."""
    place = next((i for i, row in enumerate(rows) if row.name == name), 0)
    start = max(0, min(place - count // 2, len(rows) - count))
    return rows[start : start + count]


def _named(name: str, layers: int) -> str:
    return name if layers == 1 else f"{name} (x{layers})"


def _seconds(value: float) -> str:
    """A span of time for people.

    >>> [_seconds(s) for s in (4.2, 95, 4000)]
    ['4 s', '2 min', '1 h 7 min']
    """
    if value < 60:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
