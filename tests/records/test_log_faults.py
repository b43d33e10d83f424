"""What may happen to the files of a log: crashes, full disks, several writers. Nothing that was measured is lost."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tesa.errors import UsageError
from tesa.records import files
from tesa.records.files import append_locked, locked, rewrite
from tesa.records.log import Log
from tesa.records.maintenance import Rule, merge, prune
from tests.records.test_log import TASK, record

ROOT = str(Path(__file__).parents[2])
TARGET = "x86:haswell"


def append(path: Path, data: bytes) -> None:
    """Append a line as a log does."""
    with locked(path):
        append_locked(path, data)


def child(code: str, *words: str) -> subprocess.Popen[str]:
    """A process that runs the code with all of test_log at hand; it says when it is about to begin."""
    head = f"import sys; sys.path.append({ROOT!r})\nfrom tests.records.test_log import *\n"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", head + "print('ready')\n" + code, *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(*processes: subprocess.Popen[str]) -> list[str]:
    """What each said; all have ended well."""
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@pytest.mark.filterwarnings("error")
def test_two_processes_append_whole_lines_and_lose_none(path: Path) -> None:
    code = (
        "log = Log.load(sys.argv[1], device='a')\n"
        "for i in range(60): log.append([record(family=sys.argv[2] + str(i), error='x' * 20_000)])\n"
    )
    ended(*(child(code, str(path), name) for name in "xy"))
    log = Log.load(path)
    assert len(log) == 120
    names = [row["family"] for row in map(json.loads, path.read_text().splitlines()) if "family" in row]
    for writer in "xy":
        assert [name for name in names if name[0] == writer] == [f"{writer}{i}" for i in range(60)]


@pytest.mark.filterwarnings("error")
def test_a_reader_beside_a_writer_sees_whole_lines_only(path: Path) -> None:
    code = (
        "log = Log.load(sys.argv[1], device='a')\n"
        "for i in range(40): log.append([record(family=str(i), error='x' * 200_000)])\n"
    )
    writer = child(code, str(path))
    seen = [0]
    while writer.poll() is None:
        seen.append(len(Log.load(path)))
    ended(writer)
    assert seen == sorted(seen)
    assert len(Log.load(path)) == 40


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_pruning_while_another_process_appends_loses_nothing(path: Path) -> None:
    code = (
        "log = Log.load(sys.argv[1], device='a')\n"
        "for i in range(100): log.append([record(family=str(i)), record(family='again')])\n"
    )
    writer = child(code, str(path))
    rounds = 0
    while writer.poll() is None:
        if path.exists():
            prune(path, Rule(superseded=True))
            rounds += 1
    ended(writer)
    prune(path, Rule(superseded=True))
    found = {r.family for r in Log.load(path).records(TASK, TARGET)}
    assert found == {"again", *(str(i) for i in range(100))}
    assert len(path.read_text().splitlines()) == 1 + 101  # the weight's, and the records'
    assert rounds > 1


@pytest.mark.parametrize("delay_ms", [3, 11, 37])
def test_killed_while_appending(path: Path, delay_ms: int) -> None:
    code = (
        "log = Log.load(sys.argv[1], device='a')\n"
        "for i in range(10**6):\n"
        "    log.append([record(family=str(i), error='x' * 5000)])\n"
        "    print(i)\n"
    )
    writer = child(code, str(path))
    assert writer.stdout is not None
    assert writer.stdout.readline() == "0\n"
    time.sleep(delay_ms / 1e3)
    writer.send_signal(signal.SIGKILL)
    told = [0, *(int(line) for line in writer.communicate()[0].splitlines() if line)]
    with _torn_at_most():
        log = Log.load(path, device="a")
    assert len(log) in (max(told) + 1, max(told) + 2)  # whatever append() returned from is there
    with _torn_at_most():
        log.append([record(family="after")])  # the lock of a killed process is free
        assert len(Log.load(path)) == len(log)


@contextmanager
def _torn_at_most() -> Iterator[None]:
    """Allow only the warning of a line that cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="tuning log .*: left out what cannot be read")
        yield


def test_killed_while_pruning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Log.load(path, device="a").append([record(), record(2.0), record(family="block")])
    before = path.read_bytes()
    code = (
        "import os, signal\n"
        "from tesa.records.maintenance import Rule, prune\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "prune(Path(sys.argv[1]), Rule(superseded=True))\n"
    )
    killed = child(code, str(path))
    killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    left = [item for item in path.parent.glob(".*.jsonl") if item.name.startswith(".a.")]
    assert len(left) == 1
    assert len(Log.load(path.parent)) == 2  # what was left aside is no log
    assert prune(path, Rule(superseded=True)).dropped == {"superseded": 1}
    assert not left[0].exists()
    assert len(Log.load(path.parent)) == 2


def test_a_torn_last_line(path: Path) -> None:
    log = Log.load(path, device="a")
    log.append([record(family="dense"), record(family="block")])
    whole = path.read_bytes()
    for cut in (1, 2, 40, 300):
        path.write_bytes(whole[:-cut])
        left = 2 if cut == 1 else 1
        if cut == 1:  # only the end of the line is missing
            torn = Log.load(path, device="a")
        else:
            with pytest.warns(UserWarning, match="line 3"):
                torn = Log.load(path, device="a")
        assert len(torn) == left
        torn.append([record(family="vector")])
        if cut == 1:
            assert len(Log.load(path)) == left + 1
        else:
            with pytest.warns(UserWarning, match="line 3"):
                assert len(Log.load(path)) == left + 1


def test_lines_of_another_version_get_one_warning_and_outlive_everything(path: Path, tmp_path: Path) -> None:
    newer = [json.dumps({**record(family=str(i)).to_json(), "v": 3, "shape": "new"}) for i in range(3)]
    Log.load(path, device="a").append([record(), record(2.0)])
    path.write_text(newer[0] + "\n" + path.read_text() + newer[1] + "\n" + newer[2])
    with pytest.warns(UserWarning, match="version") as told:
        assert len(Log.load(path)) == 1
    assert len(told) == 1
    assert "line 1: version 3 of the format; this tesa reads versions 1 to 2, and 2 more" in str(told[0].message)
    everything = Rule(superseded=True, failed=True, unreadable=True, keep=1, before=None)
    assert prune(path, everything).dropped == {"superseded": 1}
    lines = path.read_text().splitlines()
    assert [lines[0], *lines[3:]] == newer
    done = merge([path], tmp_path / "merged.jsonl")
    assert (done.other_versions, done.lines) == (3, 4)
    assert [line for line in done.path.read_text().splitlines() if line in newer] == newer


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
log = Log.load(path, device='a')
log.append([record(family='dense')])
before = path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 200, resource.RLIM_INFINITY))
try:
    log.append([record(family='block')])
except UsageError as error:
    print(error)
assert path.read_bytes() == before, 'something torn stays'
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append([record(family='vector')])
assert len(Log.load(path)) == 2
"""


def test_a_write_that_stops_half_way_leaves_nothing_torn(path: Path) -> None:
    """A limit on the size of files stops a write after some bytes, as a full disk does."""
    (said,) = ended(child(LIMITED, str(path)))
    assert "the file has reached the largest size that is allowed; free some space in" in said
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_disk_that_fills_up_while_pruning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Log.load(path, device="a").append([record(), record(2.0)])
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"cannot write .*a\.jsonl: the disk is full; free some space"):
        prune(path, Rule(superseded=True))
    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.iterdir()) == [".a.jsonl.lock", "a.jsonl"]


def test_ctrl_c_after_the_last_byte_takes_nothing_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        append(path, b"whole\n")
    assert path.read_bytes() == b"whole\n"


def test_a_held_lock_is_an_error_that_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LOCK_S", 0.1)
    holder = child(
        "import time\nfrom tesa.records.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held'); time.sleep(10_000)\n",
        str(path),
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another process holds its lock"):
            append(path, b"x\n")
    finally:
        holder.kill()
        holder.communicate()
    append(path, b"x\n")


def test_two_names_of_one_file_share_a_lock(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(path, b"x\n")
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "b.jsonl"
    link.symlink_to(path)
    monkeypatch.setattr(files, "_LOCK_S", 0.1)
    with locked(path), pytest.raises(UsageError, match="holds its lock"):
        append(link, b"y\n")
    with locked(link):
        rewrite(link, b"z\n")
    assert link.is_symlink()
    assert path.read_bytes() == b"z\n"


def test_pruning_keeps_the_permissions(path: Path) -> None:
    Log.load(path, device="a").append([record(), record(2.0)])
    path.chmod(0o664)
    prune(path, Rule(superseded=True))
    assert path.stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("device", ["../../../x", "/tmp/x", "", ".", "a/b", "x" * 300])
def test_no_file_is_named_after_a_device_that_has_no_name_for_one(tmp_path: Path, device: str) -> None:
    with pytest.raises(UsageError, match="no name of a CPU"):
        files.writable(tmp_path / "logs", device)
    assert files.writable(tmp_path / "logs", "emulated aarch64").name == "emulated aarch64.jsonl"


def test_what_is_no_file_among_those_of_a_log_is_passed_over(tmp_path: Path) -> None:
    """Reading a pipe that nobody writes to never comes to an end."""
    Log.load(tmp_path, device="haswell").append([record()])
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert len(Log.load(tmp_path)) == 1
