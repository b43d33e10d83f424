"""Measures the speed of a job, and says how long it will take."""

from collections.abc import Callable


class Stopwatch:
    """Seconds of a job, by a clock. minutes: that it may take in all; None for no limit.

    >>> now = 0.0
    >>> stopwatch = Stopwatch(lambda: now, 1.0)
    >>> stopwatch.begin()
    >>> now = 20.0
    >>> stopwatch.lap(8)
    >>> stopwatch.left, stopwatch.reserve(1), stopwatch.expected(4, 1)
    (40.0, 20.0, 30.0)
    """

    def __init__(self, clock: Callable[[], float], minutes: float | None) -> None:
        self._clock, self._minutes = clock, minutes
        self._started = self._begun = clock()
        self._turns = self._measured = 0

    def begin(self) -> None:
        """End the preparation, which says nothing about how long a measurement takes."""
        self._begun = self._clock()

    def lap(self, measured: int) -> None:
        """A batch with that many measurements has ended."""
        self._turns += 1
        self._measured += measured

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._clock() - self._started

    @property
    def left(self) -> float | None:
        """Seconds left of the time that the job may take."""
        return None if self._minutes is None else 60 * self._minutes - self.seconds

    def reserve(self, turns: int) -> float:
        """The seconds that so many turns will take."""
        return turns * (self._clock() - self._begun) / self._turns if self._turns else 0.0

    def expected(self, measurements: int, turns: int) -> float | None:
        """Until the end, with that many measurements and, after them, that many turns to come; None: not known yet."""
        left = self.left
        if not self._turns:
            return left
        total = self.reserve(turns) + measurements * (self._clock() - self._begun) / max(self._measured, 1)
        return total if left is None else max(0.0, min(left, total))
