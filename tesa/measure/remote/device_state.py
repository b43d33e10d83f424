"""What is known of each device during a run: which are sound, which are set aside, why and for how long."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from threading import Lock

from tesa.measure.remote.orders import About
from tesa.measure.remote.tracker import Place

_LONGEST_S = 60.0  # set aside, before it may show that it is sound again
_CHECK_AGAIN_S = 60.0  # a device that went well for that long is checked once more


@dataclass
class _Standing:
    strikes: int = 0
    aside_until: float = 0.0
    reason: str = ""
    checked: float = float("-inf")
    about: About | None = None


class Devices:
    """The standing of every server. Safe to use from several threads."""

    def __init__(self) -> None:
        self._standing: dict[Place, _Standing] = {}
        self._lock = Lock()

    def must_check(self, place: Place) -> bool:
        """True where the known-good check has to come before the next candidate."""
        with self._lock:
            return time.monotonic() - self._of(place).checked > _CHECK_AGAIN_S

    def sound(self, place: Place, about: About | None) -> None:
        """It did well. about: what it said of itself if it was checked just now."""
        with self._lock:
            standing = self._of(place)
            standing.strikes, standing.aside_until, standing.reason = 0, 0.0, ""
            if about is not None:
                standing.checked, standing.about = time.monotonic(), about

    def doubt(self, place: Place) -> None:
        """What it said may be wrong: check it before anything else runs there."""
        with self._lock:
            self._of(place).checked = float("-inf")

    def strike(self, place: Place, reason: str, *, longest: bool = False) -> None:
        """Set it aside: for a moment at first, longer each time; longest: for as long as any."""
        with self._lock:
            standing = self._of(place)
            standing.strikes += 1
            pause = _LONGEST_S if longest else min(_LONGEST_S, float(2 ** min(standing.strikes, 6)))
            standing.aside_until, standing.reason = time.monotonic() + pause, reason
            standing.checked = float("-inf")

    def pause(self, place: Place) -> float:
        """Seconds that it is set aside from now on; 0 where it may be used."""
        with self._lock:
            return max(0.0, self._of(place).aside_until - time.monotonic())

    def usable(self, places: Collection[Place]) -> frozenset[Place]:
        """Those of the places that are not set aside."""
        return frozenset(place for place in places if not self.pause(place))

    def reasons(self, places: Collection[Place]) -> tuple[str, ...]:
        """Why those of the places that are set aside are."""
        with self._lock:
            known = [(place, self._of(place).reason) for place in sorted(places)]
        return tuple(f"{place}: {reason}" for place, reason in known if reason)

    def _of(self, place: Place) -> _Standing:
        return self._standing.setdefault(place, _Standing())
