"""The rule by which a record counts: its family emits today what was measured.

A record names the code that was measured by a digest, and the source files that emitted it by a stamp. Where the files
are those of today nothing has to be emitted. Otherwise kernels are emitted again and compared: of the records that one
version of a family made, one for each setting of its switches, since it is code that these turn on or off.
"""

import math
from collections.abc import Sequence
from typing import Protocol

from tesa.records.record import Record
from tesa.schedules.types import Config


class Emitted(Protocol):
    """The code that families emit today for one layer and target."""

    def __call__(self, family: str, config: Config) -> str:
        """The digest of the code of a configuration, "" where there is none."""
        ...

    def stamp(self, family: str) -> str:
        """The digest of the files that emit a family's code, "" where a user's have a part in it."""
        ...


def valid(records: Sequence[Record], emitted: Emitted) -> list[Record]:
    """The records that count, of those of one task, target and CPU, in their order.

    emitted: of the layer that the records are of. The fastest record of a group is the one that is emitted; every
    failure is, for a mended kernel has to be tried again. A failure without a digest, where nothing was emitted, counts
    with the others of its family and stamp; other records without one count by their stamp only.
    """
    judged: dict[object, bool] = {}
    kept: set[int] = set()
    for record in sorted(records, key=lambda record: math.inf if record.median_ms is None else record.median_ms):
        if record.stamp and record.stamp == emitted.stamp(record.family):
            kept.add(id(record))
        elif record.code:
            group = (record.family, record.stamp, _switches(record.config)) if record.ok else id(record)
            if group not in judged:
                judged[group] = record.code == emitted(record.family, record.config)
            kept |= {id(record)} if judged[group] else set()
    current = {(record.family, record.stamp) for record in records if id(record) in kept}
    silent = {id(r) for r in records if not r.ok and not r.code and (r.family, r.stamp) in current}
    return [record for record in records if id(record) in kept | silent]


def _switches(config: Config) -> tuple[str, ...]:
    """The parameters that are on, and those that are off."""
    return tuple(sorted(f"{name}={value}" for name, value in config.items() if value in (0, 1)))
