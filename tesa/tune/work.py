"""A layer on its way to a kernel, and the groups in which layers are built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tesa.build.product import Product
from tesa.choose.competitors import Competitors
from tesa.choose.pick import Decision, Nearest, pick
from tesa.decompose.candidates import Option
from tesa.layers.layer import Layer
from tesa.records.log import Record, Task
from tesa.schedules.types import config_key

_BATCH = 24  # candidates that are built at once: enough for all processes, and their objects fit on the disk


@dataclass
class Work:
    """A layer on its way. records: what is known, by config_key; checked: compared with NumPy in this run.

    source: who expects what is predicted, in words. elsewhere: the records are of the device that the target names,
    which is not the one that measures here. sizes: bytes of what was built, by config_key. given: the choice, where it
    is no longer the fastest.
    """

    layer: Layer
    task: Task
    found: Competitors
    source: str = ""
    records: dict[str, Record] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)
    built: dict[str, Product] = field(default_factory=dict)
    elsewhere: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    given: Decision | None = None

    def pick(self, nearest: Sequence[Nearest] = ()) -> Decision | None:
        """The best by what is known now; None if all failed."""
        found = self.found
        if self.given is not None:
            record = self.records.get(config_key(self.given.family, self.given.config))
            return self.given if record is None or record.ok else None
        return pick(found.options, self.records, found.predicted, found.dense, source=self.source, nearest=nearest)

    def changed(self, key: str) -> bool:
        """True where a record is of other code than what was built; then it counts no longer."""
        built, record = self.built.get(key), self.records.get(key)
        if built is None or record is None or not record.ok or record.code == built.code:
            return False
        del self.records[key]
        return True


def groups(items: Sequence[tuple[Work, list[Option]]]) -> Iterator[list[tuple[Work, list[Option]]]]:
    """Groups with at most _BATCH candidates to build, or one work that has more."""
    group: list[tuple[Work, list[Option]]] = []
    room = _BATCH
    for work, options in items:
        cost = max(1, len(options))
        if group and cost > room:
            yield group
            group, room = [], _BATCH
        group.append((work, options))
        room -= cost
    if group:
        yield group
