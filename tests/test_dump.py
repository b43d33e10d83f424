"""The dump of modules: it fails before the work, with what to do, and leaves no half-written file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tesa.build.dump import Dump
from tesa.errors import UsageError


class _Module:
    def script(self, **_: object) -> str:
        return "text"


def test_modules_are_written_as_text(tmp_path: Path) -> None:
    Dump(tmp_path / "a" / "b").module("1-imported", _Module())
    assert [(file.name, file.read_text()) for file in (tmp_path / "a" / "b").iterdir()] == [("1-imported.py", "text")]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Dump(None).module("1-imported", _Module())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_way_is_told_at_once(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"cannot dump into .*: a file is in the way"):
        Dump(tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tesa.build.dump.TemporaryFile", refuse)
    with pytest.raises(UsageError, match=f"{os.strerror(number)}; give another folder"):
        Dump(tmp_path)


def test_a_disk_that_fills_up_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Dump(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="the disk is full"):
        dump.module("1-imported", _Module())
    assert list(tmp_path.iterdir()) == []
