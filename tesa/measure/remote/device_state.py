"""The state of each device during a run: sound, or suspended, why and for how long."""

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from threading import Lock

from tesa.measure.remote.address import Address
from tesa.measure.remote.messages import About

_LONGEST_S = 60.0  # of a suspension, before the device may show that it is sound again
_CHECK_AGAIN_S = 60.0  # a device that went well for that long is checked once more


@dataclass
class _State:
    failures: int = 0
    suspended_until: float = 0.0
    reason: str = ""
    checked: float = float("-inf")


class DeviceStates:
    """The state of every server. Safe to use from several threads.

    news: a sentence for each device that was set aside or is back since somebody looked; for one thread to empty.
    """

    def __init__(self) -> None:
        self._states: dict[Address, _State] = {}
        self._lock = Lock()
        self.news: deque[str] = deque()

    def must_check(self, device: Address) -> bool:
        """True where the known-good check has to come before the next candidate."""
        with self._lock:
            return time.monotonic() - self._of(device).checked > _CHECK_AGAIN_S

    def mark_sound(self, device: Address, about: About | None) -> None:
        """Forgive a device that did well. about: what it said of itself if it was checked just now."""
        with self._lock:
            state = self._of(device)
            if state.failures and about is not None:
                self.news.append(f"device {device} is sound again")
            state.failures, state.suspended_until, state.reason = 0, 0.0, ""
            if about is not None:
                state.checked = time.monotonic()

    def require_check(self, device: Address) -> None:
        """Have the device checked before anything else runs there: what it said may be wrong."""
        with self._lock:
            self._of(device).checked = float("-inf")

    def suspend(self, device: Address, reason: str, *, longest: bool = False) -> None:
        """Give the device no candidates: for a moment at first, longer each time; longest: for as long as any."""
        with self._lock:
            state = self._of(device)
            state.failures += 1
            if state.reason != reason:
                self.news.append(f"device {device} is set aside: {reason}")
            seconds = _LONGEST_S if longest else min(_LONGEST_S, float(2 ** min(state.failures, 6)))
            state.suspended_until, state.reason = time.monotonic() + seconds, reason
            state.checked = float("-inf")

    def suspended_s(self, device: Address) -> float:
        """Seconds that it is suspended from now on; 0 where it may be used."""
        with self._lock:
            return max(0.0, self._of(device).suspended_until - time.monotonic())

    def usable(self, devices: Collection[Address]) -> frozenset[Address]:
        """The devices that are not suspended."""
        return frozenset(device for device in devices if not self.suspended_s(device))

    def reasons(self, devices: Collection[Address]) -> tuple[str, ...]:
        """A line for each device that is suspended: its address and the reason."""
        with self._lock:
            known = [(device, self._of(device).reason) for device in sorted(devices)]
        return tuple(f"{device}: {reason}" for device, reason in known if reason)

    def _of(self, device: Address) -> _State:
        return self._states.setdefault(device, _State())
