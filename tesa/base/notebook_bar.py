"""The bar of a long job in a notebook: one line for each phase, drawn by the front end, gone when the job is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from types import TracebackType
from typing import Any

_EVERY_S = 0.2


class NotebookBar:
    """Draws phases where a cell's output goes, at most five times in a second, and takes them away at the end.

    display: IPython's function, of what a notebook shows. clock: in seconds.
    """

    def __init__(self, display: Callable[..., Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._display, self._clock = display, clock
        self._phases: dict[str, tuple[int, int, str, float, float]] = {}
        self._handle: Any = None
        self._drawn = float("-inf")

    def step(self, phase: str, done: int, total: int, text: str) -> None:
        """Draw that `done` of `total` steps of a phase are finished; text names the one at work."""
        now = self._clock()
        began = self._phases[phase][3] if phase in self._phases else now
        new = phase not in self._phases
        self._phases[phase] = (done, total, text, began, now)
        if new or now - self._drawn >= _EVERY_S or 0 < total <= done:
            self._drawn = now
            self._show("".join(_row(name, *known) for name, known in self._phases.items()), f"{phase} {done}/{total}")

    def notice(self, text: str) -> None:
        """Show a sentence that stays."""
        self._display({"text/plain": text, "text/html": f"<div>{escape(text)}</div>"}, raw=True)

    def _show(self, rows: str, plain: str) -> None:
        data = {"text/plain": plain, "text/html": f'<div style="font-size:13px">{rows}</div>' if rows else ""}
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def __enter__(self) -> NotebookBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._handle is not None:
            self._show("", "")


def _row(phase: str, done: int, total: int, text: str, began: float, now: float) -> str:
    """The line of one phase: what is done, the time that it took and that is left.

    >>> _row("measure", 1, 4, "conv1", 0.0, 2.0).count("left 6 s")
    1
    """
    share = f' value="{done}" max="{total}"' if total else ""
    count = f"{done}/{total}" if total else ""
    left = f", left {(now - began) * (total - done) / done:.0f} s" if 0 < done < total else ""
    words = f"{escape(phase)} <progress{share} style='width:14em;vertical-align:middle'></progress> {count}"
    return f"<div>{words} {now - began:.0f} s{left} {escape(text)}</div>"
