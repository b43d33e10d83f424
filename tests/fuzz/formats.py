"""What is tried with a damaged file of each format that tesa reads; models are in models.py.

Each function raises an error of tesa's for what is refused, and returns for what is taken. What it gives back must be
of use: a log with one bad line still has all its good ones.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tesa.base.npz import read_npz
from tesa.base.told import Untruthful, parsed, texts
from tesa.base.wasm_sections import changed
from tesa.build.cache import Cache
from tesa.bundle.model import _description
from tesa.cli import DEFECT, main
from tesa.costs import store
from tesa.errors import UsageError
from tesa.explore.journal import Journal
from tesa.frontend.masks import load_masks
from tesa.measure.remote import checkup, tracker
from tesa.records.log import Log
from tesa.records.lookup import lookup
from tesa.records.record import Record
from tesa.records.task import Task
from tesa.runtime.library import loader_path
from tesa.runtime.manifest import read_manifest
from tesa.schedules.registry import find
from tesa.schedules.types import Problem
from tesa.targets.target import parse_target
from tests.fuzz.files import SUBJECT, SYMBOL, TARGET

# Imported once, before the first child.
for _name in ("tvm", "rich.console", "tesa.report.logs", "tesa.report.plan", "tesa.decompose.candidates"):
    import_module(_name)

_FOLDER = tempfile.TemporaryDirectory(prefix="tesa-fuzz-")  # the server removes it at its end
_PROBLEM = Problem("linear", 64, 64, 4, (1, 64, 4), (1, 64, 4))
_WEIGHT = np.eye(64, dtype=np.float32)
_CORE = parse_target(TARGET).core
_OPTIONS = [("dense", config) for config in find("dense", "cpu").space(_PROBLEM, _WEIGHT, _CORE)[:3]]
_GOOD = Record(
    Task.of(_PROBLEM, _WEIGHT), TARGET, {"cpu": "znver5"}, "dense", {"rows": 4}, 1e-9, 1e-9, time="9999-01-01"
)


def check(data: bytes) -> str:
    """Read a file. data: the name of its format, a newline, its content."""
    name, _, content = data.partition(b"\n")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=_FOLDER.name) as folder:
        os.chdir(folder)
        try:
            return _READ[name.decode()](content, Path(folder)) or ""
        finally:
            os.chdir(_FOLDER.name)


def _command(*words: object) -> str:
    """Run a command line. What it says is a defect raises."""
    code = main([str(word) for word in words])
    if code == DEFECT:
        raise AssertionError(f"tesa {' '.join(map(str, words))} ends with {DEFECT}")
    return f"exit code {code}"


def _log(content: bytes, folder: Path) -> str:
    path = folder / "znver5.jsonl"
    good = json.dumps(_GOOD.to_json()).encode()
    path.write_bytes(content + (b"" if content.endswith(b"\n") else b"\n") + good + b"\n")
    log = Log.load(folder)
    found = log.best(_GOOD.task, TARGET)
    assert found is not None
    assert found.config == _GOOD.config, "the good line behind is lost"
    for entry in list(log.entries()):
        log.record(entry)
    near = Task.of(_PROBLEM, np.roll(_WEIGHT, 1, 0))
    lookup(log, near, near.pattern.statistics, TARGET)
    _command("logs", "ls", path)
    _command("logs", "best", path)
    _command("logs", "merge", path, "-o", folder / "merged.jsonl")
    return _command("logs", "prune", path, "--best", "1", "--superseded", "--unreadable")


def _table(content: bytes, folder: Path) -> str:
    (folder / "znver5.json").write_bytes(content)
    table = store.load(TARGET, folder=folder)
    assert table is not None
    _ = table.described
    return table.rank(_PROBLEM, _WEIGHT, _OPTIONS)[0].prediction.source


def _manifest(content: bytes, folder: Path) -> str:
    path = folder / "model.json"
    path.write_bytes(content)
    said = _command("explain", folder / "model.so")
    _command("explain", folder / "model.so", "fc1")
    _description(path)
    str(read_manifest(path).to_json())
    return said


def _journal(content: bytes, folder: Path) -> str:
    path = folder / "run.jsonl"
    good = json.dumps({"subject": SUBJECT, "key": "good", "error": 0.25}).encode()
    path.write_bytes(content + (b"" if content.endswith(b"\n") else b"\n") + good + b"\n")
    journal = Journal(path, SUBJECT)
    assert journal.known["good"]["error"] == 0.25, "the good line behind is lost"
    for row in list(journal.known.values()):
        assert row["error"] >= 0 or row["error"] < 0, "an error is no number"
        journal.keep(row["key"], {k: v for k, v in row.items() if k not in ("subject", "key")})
    assert set(Journal(path, SUBJECT).known) == set(journal.known)
    return f"{len(journal.known)} rows"


def _bundle(content: bytes, folder: Path) -> str:
    from tesa.bundle.bundle import _MARK, _written
    from tesa.bundle.model import BARE, Compiled

    outside = folder / "outside"
    outside.write_text("x")
    place = folder / "bundle"
    place.mkdir()
    (place / _MARK).write_bytes(content)
    try:
        _written(Compiled(folder / "model.o", BARE, "", (), _DESCRIPTION), {}, place)
    except (OSError, ValueError, KeyError, TypeError) as error:  # as bundle() catches them
        raise UsageError(str(error)) from error
    finally:
        assert outside.read_text() == "x"
    return ""


def _npz(content: bytes, folder: Path) -> str:
    (folder / "in.npz").write_bytes(content)
    return ", ".join(f"{array.shape}" for array in read_npz(folder / "in.npz").values())


def _masks(content: bytes, folder: Path) -> str:
    (folder / "masks.npz").write_bytes(content)
    return f"{len(load_masks(folder / 'masks.npz'))} masks"


def _cache(content: bytes, folder: Path) -> str:
    (folder / "ab").mkdir()
    (folder / "ab" / "abcd").write_bytes(content)
    found = Cache(folder).get("abcd")
    assert found in (None, b"an object"), "a damaged entry was taken"
    return str(found)


def _wasm(content: bytes, folder: Path) -> str:
    return str(changed(content))


def _library(content: bytes, folder: Path) -> str:
    import ctypes

    path = folder / "model.so"
    path.write_bytes(content)
    with loader_path(path) as file:
        return str(getattr(ctypes.CDLL(str(file)), SYMBOL)())


def _tracker(content: bytes, folder: Path) -> str:
    found = tracker.Tracker("127.0.0.1", 1)
    found._connection = lambda: None  # type: ignore[method-assign, assignment, return-value]
    found._send = lambda message: None  # type: ignore[method-assign, assignment]
    found._receive = lambda count: len(content).to_bytes(4, "little") if count == 4 else content  # type: ignore
    try:
        return str(found.listing())
    except tracker.TrackerLost as error:
        raise UsageError(str(error)) from error


def _device(content: bytes, folder: Path) -> str:
    try:
        told = texts({"llvm_cpu": "", "machine": "", **parsed(content, 1 << 14)}, "a device")
        about = checkup._about(
            told, "machine=x86_64\ncores=4\nhost=a\nkernel=x86_64\nbus=\ntvm_ffi=0\n\nmodel name : x"
        )
    except (Untruthful, TypeError) as error:  # what a session takes for a lie
        raise UsageError(str(error)) from error
    assert (folder / f"{about.cpu}.jsonl").resolve().parent == folder.resolve()
    return about.cpu


_DESCRIPTION: dict[str, Any] = {
    "inputs": [], "outputs": [], "versions": {"tesa": "0"},
    "library": {"name": "m", "format": "o", "arena": 0, "alignment": 64, "functions": ["m_run"]},
}  # fmt: skip

_READ: dict[str, Callable[[bytes, Path], str]] = {
    "log": _log, "table": _table, "manifest": _manifest, "bundle": _bundle, "npz": _npz, "masks": _masks,
    "cache": _cache, "wasm": _wasm, "library": _library, "journal": _journal, "tracker": _tracker, "device": _device,
}  # fmt: skip
