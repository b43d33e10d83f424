"""Temporary folders: gone at the end, and those of killed runs by the next run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tesa.base import scratch
from tesa.base.files import atomic_path
from tesa.base.scratch import Scratch
from tesa.errors import UsageError
from tests.support import until

LIVES = (
    "import time; from tesa.base.scratch import Scratch; one = Scratch(); print(one.name, flush=True); time.sleep(600)"
)
"""A run in the middle of its work."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary files that is empty and was never swept."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(scratch, "_swept", set())
    return tmp_path


def aged(path: Path) -> Path:
    old = time.time() - 2 * 86400
    for inner in (*path.rglob("*"), path):
        os.utime(inner, (old, old))
    return path


def killed(place: Path) -> Path:
    """The folder of a run that was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIVES], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(place)}
    )
    assert process.stdout is not None
    inner = Path(process.stdout.readline().strip())
    (inner / "file").write_text("x")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert inner.is_dir()
    return inner.parent


def test_nothing_stays(place: Path) -> None:
    with Scratch() as one, Scratch() as other:
        assert Path(one).parent == Path(other).parent
        assert Path(one).parent.parent == place
        (Path(one) / "file").write_text("x")
    assert list(place.iterdir()) == []
    lasting = Scratch()
    lasting.cleanup()
    lasting.cleanup()
    assert list(place.iterdir()) == []


def test_the_next_run_removes_what_a_killed_one_left(place: Path) -> None:
    old, young = aged(killed(place)), killed(place)
    stranger = place / "tesa-results"
    stranger.mkdir()
    (stranger / "mine").write_text("x")
    empty = place / "tesa-abcdefgh"
    empty.mkdir()
    (place / "tesa-link").symlink_to(stranger)
    aged(stranger), aged(empty)
    with Scratch():
        pass
    assert not old.exists()
    assert not empty.exists()
    assert young.exists()
    assert (stranger / "mine").exists()
    assert (place / "tesa-link").is_symlink()


def test_what_has_an_owner_stays_however_old(place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LIVES], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(place)}
    )
    try:
        assert process.stdout is not None
        inner = Path(process.stdout.readline().strip())
        aged(inner.parent)
        with Scratch():
            assert inner.is_dir()
    finally:
        process.terminate()
        process.wait()


def test_a_place_that_is_missing_or_cannot_be_written_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(place / "none"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.warns(UserWarning, match="TMPDIR names .*none, which is no folder: temporary files go to"), Scratch():
        pass

    def refuse(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(UsageError, match="the disk is full; free some space there, or set TMPDIR"):
        Scratch()


def test_a_full_place_is_told_from_a_full_disk_elsewhere(place: Path) -> None:
    with Scratch() as name, pytest.raises(UsageError, match="set TMPDIR"), atomic_path(Path(name) / "x"):
        raise OSError(28, "No space left on device")


def test_a_forked_child_removes_nothing(place: Path) -> None:
    with Scratch() as name:
        child = os.fork()
        if not child:
            os._exit(0 if Path(name).is_dir() and not _closed_in_child() else 1)
        assert os.waitpid(child, 0)[1] == 0
        until(lambda: Path(name).is_dir(), "nothing")


def _closed_in_child() -> bool:
    """A folder of the child's own, beside its parent's."""
    with Scratch() as mine:
        return not Path(mine).is_dir()
