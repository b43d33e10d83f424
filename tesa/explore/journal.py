"""The log of an exploration: a line of JSON for each evaluation, at once; the next run goes on from there."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tesa.base.told import Untruthful, parsed
from tesa.errors import UsageError

_LARGEST = 1e300  # of an error or a score; a number of 400 digits is none


class Journal:
    """The known results of configurations, by their key, of one subject: the model, the data, the way to evaluate.

    Lines that cannot be read, or are of another subject, are left out, and counted; they never end the log. Where it
    cannot be written any more, that is told once, and the exploration goes on.

    >>> journal = Journal(None, "subject")
    >>> journal.keep("k", {"error": 0.5}); journal.find("k")["error"]
    0.5
    """

    def __init__(self, path: Path | None, subject: str) -> None:
        self.path, self.subject = path, subject
        self.known: dict[str, Mapping[str, Any]] = {}
        self.unreadable = self.others = 0
        self._told = False
        if path is None:
            return
        if path.is_dir():
            raise UsageError(f"cannot write the log {path}: it is a folder; give the name of a file")
        if not path.parent.is_dir():
            raise UsageError(f"cannot write the log {path}: there is no folder {path.parent}")
        if path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read the log {path}: {error.strerror}") from error
        for line in data.split(b"\n"):
            if not line.strip():
                continue
            row = _row(line)
            if row is None:
                self.unreadable += 1
            elif row["subject"] != self.subject:
                self.others += 1
            else:
                self.known[row["key"]] = row
        if self.unreadable:
            warnings.warn(f"{path}: {self.unreadable} lines cannot be read and are left out", stacklevel=3)
        if data and not data.endswith(b"\n"):  # a line that was cut off must not spoil the next
            self._write("\n")

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The known result of a configuration."""
        return self.known.get(key)

    def keep(self, key: str, row: Mapping[str, Any]) -> None:
        """Note an evaluation, in the file at once."""
        self.known[key] = row
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._write(json.dumps({"subject": self.subject, "key": key, **clean}) + "\n")

    def _write(self, text: str) -> None:
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as out:
                out.write(text)
        except OSError as error:
            if not self._told:
                warnings.warn(f"the log {self.path} cannot be written ({error.strerror}); going on", stacklevel=3)
                self._told = True


def _row(line: bytes) -> dict[str, Any] | None:
    """A line of the log; None where it is none."""
    try:
        row = parsed(line)
    except Untruthful:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("key"), str) or not isinstance(row.get("subject"), str):
        return None
    for name in ("error", "score", "seconds"):
        value = row.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
        if value is not None and not number:
            return None
    row["error"] = math.inf if row.get("error") is None else float(row["error"])
    return row
