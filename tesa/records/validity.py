"""The rule by which a record counts: its family emits today what was measured.

To emit every kernel that a log knows would take longer than to measure some. The kernels of a family change together,
at some moment, so that one is emitted where nothing has changed, and a few where something has. What is chosen in the
end is emitted and compared anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tesa.records.record import Record
from tesa.schedules.types import Config

Emitted = Callable[[str, Config], str]
"""The digest of the code that a family emits today for a configuration, "" where it emits none."""


def valid(records: Sequence[Record], emitted: Emitted) -> list[Record]:
    """The records that count, of those of one task on one target, in their order.

    Of each family: those measured since its code is what it is today. If the oldest record is of the code of today, all
    are; otherwise the change is looked for between the oldest and the newest. A failure may be without a digest, where
    nothing was emitted or built: it counts with the others of its time. Other records without a digest never count.

    emitted: of the layer that the records are of; it is called once for most families.
    """
    families: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.time):
        if record.code or not record.ok:
            families.setdefault(record.family, []).append(record)
    kept: set[int] = set()
    for found in families.values():
        since = _first_valid([record for record in found if record.code], emitted)
        if since is not None:
            kept |= {id(record) for record in found if record.time >= since}
    return [record for record in records if id(record) in kept]


def _first_valid(records: Sequence[Record], emitted: Emitted) -> str | None:
    """The time of the first record of the code of today, of a family's in the order of time; None if none is."""

    def current(record: Record) -> bool:
        return record.code == emitted(record.family, record.config)

    if not records:
        return None
    if current(records[0]):
        return records[0].time
    if not current(records[-1]):
        return None
    old, new = 0, len(records) - 1
    while new - old > 1:
        middle = (old + new) // 2
        if current(records[middle]):
            new = middle
        else:
            old = middle
    return records[new].time
