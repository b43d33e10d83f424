"""The cache holds what was put, notices damage, stays in its bounds, and never fails a build."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tesa.build.cache import Cache


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*"))


def test_round_trip(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get("00ff") is None
    cache.put("00ff", b"first")
    cache.put("00ff", b"second")
    assert Cache(tmp_path).get("00ff") == b"second"
    assert [path.name for path in entries(tmp_path)] == ["00ff"]


def test_default_folder_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESA_CACHE_DIR", str(tmp_path))
    Cache().put("aa", b"x")
    assert entries(tmp_path / "objects")[0].name == "aa"


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"!", lambda data: b"x" + data]
)
def test_a_damaged_entry_is_missing(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    cache = Cache(tmp_path)
    cache.put("abcd", b"an object")
    path = entries(tmp_path)[0]
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("abcd") is None
    assert not path.exists()
    cache.put("abcd", b"an object")
    assert cache.get("abcd") == b"an object"


def test_trim_removes_the_longest_unused(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=4000)
    for age, key in enumerate(("aa", "bb", "cc", "dd")):
        cache.put(key, bytes(1000))
        os.utime(tmp_path / key / key, (1000.0 + age, 1000.0 + age))
    assert cache.get("aa") is not None  # now the youngest
    cache.trim()
    assert [path.name for path in entries(tmp_path)] == ["aa", "cc", "dd"]


def test_trim_removes_what_a_dead_process_left(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("aa", b"x")
    old, new = tmp_path / "aa" / ".aa.1", tmp_path / "aa" / ".aa.2"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1000.0, 1000.0))
    cache.trim()
    assert not old.exists()
    assert new.exists()


def test_a_folder_that_cannot_be_written_only_warns(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file")
    with pytest.warns(UserWarning, match="TESA_CACHE_DIR"):
        cache.put("aa", b"x")
    assert cache.get("aa") is None
    cache.trim()


def test_many_writers_of_one_key(tmp_path: Path) -> None:
    payloads = [bytes([i]) * 50_000 for i in range(4)]

    def write(payload: bytes) -> None:
        for _ in range(20):
            Cache(tmp_path).put("aa", payload)

    threads = [threading.Thread(target=write, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    seen = {Cache(tmp_path).get("aa") for _ in range(50)} - {None}
    for thread in threads:
        thread.join()
    assert seen <= set(payloads)
    assert len(entries(tmp_path)) == 1
