"""The files of the log: whole lines are appended under a lock, and a file is rewritten aside under the same lock."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tesa.base.files import atomic_path
from tesa.base.told import Untruthful, word
from tesa.errors import UsageError

SUFFIX = ".jsonl"

_LOCK_S = 60.0
_DENIED = (errno.EACCES, errno.EPERM)
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file has reached the largest size that is allowed",
}
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_ELSEWHERE = "give another folder with --log DIR (log=DIR in Python)"


def writable(place: Path, device: str) -> Path:
    """The file that new records of a device go to, in a folder, or the file itself. UsageError for a bad name."""
    if place.suffix == SUFFIX:
        return place
    try:
        return place / f"{word(device, 'a CPU')}{SUFFIX}"
    except Untruthful as error:
        raise UsageError(f"cannot name a file of the tuning log after the device: {error}; {_ELSEWHERE}") from error


def files(place: Path) -> list[Path]:
    """The log files of a folder, or the file itself; none if there is nothing. UsageError if it is no log."""
    try:
        if place.is_dir():  # names with a dot are what a killed writer left aside
            found = (path for path in place.glob(f"*{SUFFIX}") if not path.name.startswith("."))
            return sorted(path for path in found if not _waits(path))
        if not place.is_file():
            return []
    except OSError as error:  # a folder above it that may not be searched
        raise UsageError(f"cannot read the tuning log {place}: {error.strerror}; {_ELSEWHERE}") from error
    if place.suffix != SUFFIX:
        raise UsageError(
            f"cannot use the tuning log {place}: it is a file; give a folder, or a file whose name ends in {SUFFIX}"
        )
    return [place]


def _waits(path: Path) -> bool:
    """True for a pipe or a device, from which reading may never come to an end."""
    return path.is_fifo() or path.is_char_device() or path.is_socket()


def read(path: Path, *, wait: bool = True) -> bytes:
    """The content of a file. Where it ends within a line, and somebody is writing, wait for the end of that line.

    wait=False for who holds the lock.
    """
    try:
        data = path.read_bytes()
        if wait and data and not data.endswith(b"\n") and _lock_of(path).exists():
            with suppress(OSError, Timeout), FileLock(_lock_of(path), timeout=5.0):
                data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the tuning log {path}: {error.strerror}") from error
    return data


def append_locked(path: Path, data: bytes) -> int:
    """Append whole lines, synced, only inside locked(path). The place in the file at which data begins.

    A line that a crash cut short before is ended first; what fails leaves nothing.
    """
    with open(path, "ab+", buffering=0) as file:  # a buffer would be written once more when the file is closed
        end = file.seek(0, os.SEEK_END)
        start = end
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                data, start = b"\n" + data, end + 1
        view = memoryview(data)
        try:
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        except BaseException as error:
            if view or isinstance(error, OSError):  # Ctrl-C after the last byte takes nothing back
                with suppress(OSError):
                    file.truncate(end)
            raise
    return start


def has(path: Path, head: bytes, offset: int) -> bool:
    """True where the file has these bytes at this place; it may have been rewritten, or be gone."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(len(head)) == head
    except OSError:
        return False


def rewrite(path: Path, data: bytes) -> None:
    """Put data in the place of the file in one step. Only inside locked(path). UsageError leaves it as it was."""
    path = Path(os.path.realpath(path))
    litter = re.compile(rf"\.{re.escape(path.stem)}\.([0-9a-f]{{12}}|[0-9a-f]{{24}})\{SUFFIX}")
    for item in path.parent.iterdir():
        if litter.fullmatch(item.name):  # of a writer that was killed: whoever rewrites holds the lock, and that is us
            with suppress(OSError):
                item.unlink()
    with atomic_path(path) as aside:
        aside.write_bytes(data)
        if path.exists():
            with suppress(OSError):  # somebody else's file in a shared folder
                shutil.copymode(path, aside)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one that writes this file. Makes its folder; what was made for nothing is removed on an error.

    Raises UsageError, with what to do, for whatever the system refuses, inside the block too.
    """
    lock = _lock_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=_LOCK_S):
            fresh = not path.exists()
            try:
                yield
            except BaseException:
                for item in (path, lock) if fresh else ():  # while the lock is held: who waits for it sees it gone
                    with suppress(OSError):  # perhaps it was never made
                        if item.stat().st_size == 0:
                            item.unlink()
                raise
    except Timeout as error:
        raise UsageError(f"cannot write the tuning log {path}: another process holds its lock; {_ELSEWHERE}") from error
    except OSError as error:
        raise UsageError(f"cannot write the tuning log {path}: {_advice(error, path)}") from error


def _lock_of(path: Path) -> Path:
    """Beside the file itself: two links to it share one lock."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.lock")


def _advice(error: OSError, path: Path) -> str:
    """The reason of an error of the system, and what to do about exactly that."""
    folder = path.parent
    if error.errno in _FULL:
        return f"{_FULL[error.errno]}; free some space in {folder}, or {_ELSEWHERE}"
    if error.errno in _DENIED:
        return f"no permission to write in {folder}; change its permissions, or {_ELSEWHERE}"
    if error.errno == errno.EROFS:
        return f"{folder} is read-only; {_ELSEWHERE}"
    if error.errno in _IN_THE_WAY:
        wrong = next((item for item in reversed(path.parents) if item.exists() and not item.is_dir()), None)
        what = f"{wrong} exists and is a file" if wrong is not None else f"{path} exists and is a folder"
        return f"{what}; remove it, or {_ELSEWHERE}"
    return f"{error.strerror or error}; {_ELSEWHERE}"
