"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from tesa.base.files import atomic_path, cache_dir, write_json, write_text
from tesa.errors import UsageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    with atomic_path(path) as aside:
        assert aside.parent == tmp_path
        assert aside.suffix == ".so"
        aside.write_bytes(b"code")
        assert not path.exists()
    assert path.read_bytes() == b"code"
    assert names(tmp_path) == ["model.so"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def interrupted(path: Path, kind: type[BaseException]) -> None:
    with atomic_path(path) as aside:
        aside.write_text("half")
        raise kind


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(kind):
        interrupted(path, kind)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.json"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with atomic_path(path) as one, atomic_path(path) as two:
        assert one != two
        one.write_text("1")
        two.write_text("2")
    assert path.read_text() == "1"
    assert names(tmp_path) == ["x.txt"]


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "no" / "model.so"
    with pytest.raises(UsageError, match=f"cannot write {path}: there is no folder .*mkdir -p"), atomic_path(path):
        pass


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is not a folder"):
        write_text(tmp_path / "file" / "x", "")


def test_a_folder_as_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        write_text(tmp_path, "")


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(UsageError, match="cannot write /dev/null: it is not a regular file"):
        write_text("/dev/null", "")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EACCES, "no permission to write in"),
        (errno.EROFS, "is read-only"),
        (errno.ENOSPC, "the disk is full; free some space in"),
    ],
)
def test_an_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str) -> None:
    def refuse(*_: object) -> int:  # root may write anywhere, so the system's answer is made up
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageError, match=f"cannot write {tmp_path}/x: .*{text}"):
        write_text(tmp_path / "x", "")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("ld: final link failed: No space left on device"),
    ],
)
def test_a_full_disk(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(UsageError, match=r"disk.*free some space"), atomic_path(tmp_path / "x"):
        raise error
    assert names(tmp_path) == []


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught, atomic_path(tmp_path / "x"):
        raise error
    assert caught.value is error


def test_json_is_the_same_twice_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": None})
    write_json(tmp_path / "b.json", {"b": [1, 2.5], "a": None})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5], "a": None}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "c.json", float("nan"))
    assert names(tmp_path) == ["a.json", "b.json"]


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESA_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("TESA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "tesa"
