"""Quantities written for people. None, where nothing was measured, is a dash."""

import math
from collections.abc import Sequence

from tesa.build.footprint import Footprint

NOTHING = "-"


def milliseconds(value: float | None) -> str:
    """Three significant digits, and no fewer than whole microseconds below that.

    >>> [milliseconds(ms) for ms in (12.3456, 1.23456, 0.0123456, 0.000123, 0, None)]
    ['12.3', '1.23', '0.0123', '0.00012', '0', '-']
    """
    if value is None or not math.isfinite(value):
        return NOTHING if value is None else str(value)
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(digits, 0), 5)}f}"


def counted(number: int, word: str) -> str:
    """A number of things.

    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def size(count: int | None) -> str:
    """Bytes with a decimal prefix.

    >>> size(999), size(1_234_567), size(None)
    ('999 B', '1.2 MB', '-')
    """
    if count is None:
        return NOTHING
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def footprint(found: Footprint) -> str:
    """The bytes of kernels by what they are.

    >>> footprint(Footprint(1000, 500, 20))
    '1.0 kB of code, 500 B of values, 20 B of indices: 1.5 kB'
    """
    parts = f"{size(found.code)} of code, {size(found.values)} of values, {size(found.indices)} of indices"
    return f"{parts}: {size(found.total)}"


def percent(share: float | None) -> str:
    """A share of 1 as a percentage; never rounded up to 100 % or down to 0 %.

    >>> percent(0.9), percent(0.99999), percent(0.00001), percent(1), percent(None)
    ('90 %', '99.9 %', '0.1 %', '100 %', '-')
    """
    if share is None:
        return NOTHING
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    rounded = min(max(round(value, 1), 0.1), 99.9)
    return f"{rounded:g} %"


def ratio(value: float | None) -> str:
    """A speed-up.

    >>> ratio(2.348), ratio(11.04), ratio(123.4), ratio(None)
    ('2.35x', '11.0x', '123x', '-')
    """
    if value is None:
        return NOTHING
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}x"


def error(value: float | None) -> str:
    """A difference.

    >>> error(1.2345e-7), error(0.0)
    ('1.2e-07', '0')
    """
    if value is None:
        return NOTHING
    return "0" if value == 0 else f"{value:.1e}"


def dims(shape: Sequence[int | str]) -> str:
    """A shape.

    >>> dims((1, 3, 64, 64)), dims(())
    ('1x3x64x64', 'scalar')
    """
    return "x".join(map(str, shape)) or "scalar"
