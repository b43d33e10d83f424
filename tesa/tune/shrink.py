"""Smaller kernels where the fastest do not fit into the bytes that a library's kernels may have together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tesa.choose.budget import Item, least_bytes, within
from tesa.choose.pick import Decision, milliseconds
from tesa.decompose.candidates import Option
from tesa.errors import UsageError
from tesa.records.log import Record
from tesa.schedules.types import config_key


@dataclass(frozen=True)
class Ways:
    """The ways to run a layer. chosen: the fastest, by its key; reason: of that choice.

    options, records, predicted: see tesa.choose.pick.pick; sizes: bytes of the kernels of options that could be built,
    by config_key. times: how many layers of the model share the kernel.
    """

    options: Sequence[Option]
    records: Mapping[str, Record]
    predicted: Mapping[str, float]
    sizes: Mapping[str, int]
    chosen: str
    reason: str
    times: int = 1

    def items(self) -> dict[str, Item]:
        """Bytes and milliseconds of each option that works, by config_key. What was not measured is as far off its
        prediction as the least far of those that were."""
        known = {key: r.median_ms for key, r in self.records.items() if r.ok and r.median_ms is not None}
        factor = min((ms / self.predicted[k] for k, ms in known.items() if self.predicted.get(k)), default=1.0)
        failed = {key for key, record in self.records.items() if not record.ok}
        keys = [config_key(*option) for option in self.options]
        return {
            key: Item(self.sizes[key], known[key] if key in known else self.predicted[key] * factor)
            for key in keys
            if key in self.sizes and key not in failed
        }


def shrunk(contests: Sequence[Sequence[Ways]], room: int) -> list[tuple[int, Decision | None]]:
    """The choice for each contest, of one layer in one or several forms, so that all kernels fit into `room` bytes.

    The place of the form, and its choice; None where that is the fastest, as it was. No other choice among the options
    takes less time together. Raises UsageError, with the bytes that are needed, where nothing fits.
    """
    every = [
        [(place, key, item) for place, ways in enumerate(contest) for key, item in ways.items().items()]
        for contest in contests
    ]
    groups = [
        [Item(item.bytes, item.ms * contest[place].times) for place, _, item in rows]
        for contest, rows in zip(contests, every, strict=True)
    ]
    chosen = within(groups, room) if all(groups) else None
    if chosen is None:
        least = least_bytes([group for group in groups if group])
        raise UsageError(
            f"the kernels of {len(groups)} layers take {least:,} bytes at the least, by the kernels that compete, and "
            f"{room:,} are allowed: give --max-bytes {least} or more, or let weights be kept in fewer bits "
            "(--storage, a quantized model)"
        )
    return [
        (rows[at][0], _decision(contest[rows[at][0]], rows[at][1], room))
        for contest, rows, at in zip(contests, every, chosen, strict=True)
    ]


def _decision(ways: Ways, key: str, room: int) -> Decision | None:
    """The choice of an option, with what is given up for it; None for the one that was chosen before."""
    if key == ways.chosen:
        return None
    items, named = ways.items(), {config_key(*option): option for option in ways.options}
    fast = items.get(ways.chosen)
    lost = "" if fast is None else f" ({milliseconds(fast.ms)}, {fast.bytes:,} bytes)"
    given_up = named[ways.chosen][0] if ways.chosen in named else ways.chosen
    return Decision(
        *named[key],
        f"{ways.reason}; {named[key][0]} ({milliseconds(items[key].ms)}, {items[key].bytes:,} bytes) for {given_up}"
        f"{lost}, because all kernels may have {room:,} bytes together",
    )
