"""Turns results into records and writes them down at once. A log that cannot be written does not end a job."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from tesa.base.version import versions
from tesa.decompose.candidates import Option
from tesa.errors import UsageError
from tesa.measure.failure import Failure
from tesa.measure.timing import Timing
from tesa.records.emitted import stamp
from tesa.records.log import Log, Record, Task
from tesa.records.record import STAMP
from tesa.schedules.types import config_key
from tesa.targets.target import Target

Results = Sequence[tuple[Option, Timing | Failure]]


class Recorder:
    """Writes the records of one target and device."""

    def __init__(self, log: Log, target: Target, device: Mapping[str, Any]) -> None:
        self.device = dict(device)
        self.fault = ""
        """Why the log could not be written the last time it was tried; "" where all is in it."""
        self._log, self._target = log, target
        self._unsaved: list[Record] = []

    def enter(self, task: Task, results: Results, codes: Mapping[str, str]) -> list[Record]:
        """The records of what was measured together, which have the same time; they are in the log on return.

        codes: digests of what was emitted, by config_key.
        """
        stamp = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        records = [
            self.record(task, option, result, codes, stamp)
            for option, result in results
            if not isinstance(result, Failure) or result.kind.blames_kernel
        ]
        self._unsaved += records
        self.save()
        return records

    def save(self) -> None:
        """Write what is not in the log. What cannot be written is kept, and tried again with the next results."""
        if not self._unsaved:
            return
        try:
            self._log.append(self._unsaved)
        except (UsageError, OSError) as error:
            self.fault = str(error)
        else:
            self._unsaved, self.fault = [], ""

    @property
    def unsaved(self) -> int:
        """Records that are not in the log."""
        return len(self._unsaved)

    def record(
        self, task: Task, option: Option, result: Timing | Failure, codes: Mapping[str, str], time: str = ""
    ) -> Record:
        """The record of one result, which this does not write down."""
        name, config = option
        made = {**versions(), STAMP: stamp(name, self._target)}
        blank = Record(
            task, self._target.name, self.device, name, dict(config), None, None, versions=made, time=time,
            code=codes.get(config_key(name, config), ""),
        )  # fmt: skip
        if isinstance(result, Failure):
            return replace(blank, ok=False, error=str(result))
        return replace(blank, median_ms=result.median_ms, min_ms=result.min_ms)
