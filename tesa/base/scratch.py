"""Folders for temporary files, all of a process in one that a later run removes if this one is killed.

The folder of a process lies in the system's place for temporary files and holds a file that is locked as long as the
process lives. The lock ends with the process, however that ends. So the next run, or one of the days after, knows what
nobody owns any more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import threading
import time
import warnings
import weakref
from pathlib import Path
from types import TracebackType
from typing import IO

from tesa.errors import UsageError

_PREFIX, _OWNER = "tesa-", ".owner"
_OLD_S = 24 * 3600.0  # what was changed since then is left alone, whoever made it
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


class Scratch:
    """A temporary folder, as tempfile.TemporaryDirectory: its path in name, removed at the end of a with block.

    folder: where it is made, by default the place of this process. Raises UsageError, with what to do about TMPDIR, if
    none can be made.

    >>> with Scratch() as name:
    ...     Path(name).is_dir()
    True
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._home = None if folder is not None else _enter()
        try:
            self.name = tempfile.mkdtemp(prefix=_PREFIX, dir=folder if self._home is None else self._home.path)
        except OSError as error:
            if self._home is not None:
                self._home.leave()
            raise _refused(error, str(folder) if folder is not None else _place()) from error
        self._finalizer = weakref.finalize(self, _removed, self.name, self._home, os.getpid())

    def __enter__(self) -> str:
        return self.name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Remove the folder. May be called twice."""
        self._finalizer()


def scratch_file() -> IO[bytes]:
    """A temporary file without a name, for binary data. Raises UsageError as Scratch does."""
    try:
        return tempfile.TemporaryFile(dir=_place())
    except OSError as error:
        raise _refused(error, _place()) from error


def is_temporary(path: Path) -> bool:
    """True for a path in the place of temporary files."""
    with contextlib.suppress(OSError, UsageError):
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(_place()))
    return False


class _Home:
    """The folder of this process, as long as anything is in it."""

    def __init__(self, place: str) -> None:
        self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
        self.users, self.pid, self.place = 1, os.getpid(), place
        self._owner = os.open(os.path.join(self.path, _OWNER), os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: then nobody can lock it, and it is left alone
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def leave(self) -> None:
        """Remove the folder with its last user."""
        global _home
        with _lock:
            self.users -= 1
            if self.users or self.pid != os.getpid():
                return
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.path, _OWNER))
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
            os.close(self._owner)
            if _home is self:
                _home = None


_lock = threading.RLock()  # a finalizer may run wherever this thread is
_home: _Home | None = None
_swept: set[str] = set()


def _enter() -> _Home:
    """The folder of this process, with one more user."""
    global _home
    with _lock:
        place, home = _place(), _home
        if home is not None:
            home.users += 1  # at once: a finalizer may run at any moment, and would remove what has no user
            if home.pid == os.getpid() and home.place == place and os.path.isdir(home.path):
                return home
            home.leave()
        if place not in _swept:
            _swept.add(place)
            sweep(place)
        try:
            made = _home = _Home(place)
        except OSError as error:
            raise _refused(error, place) from error
        return made


def _removed(name: str, home: _Home | None, pid: int) -> None:
    if pid == os.getpid():  # a forked child has no right to its parent's
        shutil.rmtree(name, ignore_errors=True)
        if home is not None:
            home.leave()


def _place() -> str:
    """The system's place for temporary files, TMPDIR where that can be used. Raises UsageError if there is none."""
    try:
        found = tempfile.gettempdir()
    except OSError as error:
        raise _refused(error, os.environ.get("TMPDIR") or "/tmp") from error
    wanted = os.environ.get("TMPDIR")
    if wanted and os.path.realpath(wanted) != os.path.realpath(found):
        os.environ["TMPDIR"] = found  # for the compilers, too, and said once
        reason = "cannot be written, or is full" if os.path.isdir(wanted) else "is no folder"
        warnings.warn(f"TMPDIR names {wanted}, which {reason}: temporary files go to {found}", stacklevel=4)
    return found


def _refused(error: OSError, place: str) -> UsageError:
    reason = _FULL.get(error.errno or 0, error.strerror or str(error))
    return UsageError(
        f"cannot write temporary files in {place}: {reason}; free some space there, or set TMPDIR to a folder that can "
        "be written"
    )


def sweep(place: str) -> None:
    """Remove the folders of killed runs: this user's, unchanged for a day, whose owner does not live any more."""
    with contextlib.suppress(OSError), os.scandir(place) as found:
        for item in found:
            with contextlib.suppress(OSError):
                if item.name.startswith(_PREFIX) and item.is_dir(follow_symlinks=False):
                    facts = item.stat(follow_symlinks=False)
                    if facts.st_uid == os.geteuid() and time.time() - facts.st_mtime > _OLD_S:
                        _sweep_one(item.path)


def _sweep_one(path: str) -> None:
    """Remove one, if it is a process's and that has ended. An empty one was left between two steps of making it."""
    try:
        owner = os.open(os.path.join(path, _OWNER), os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        os.rmdir(path)  # does nothing where something is in it: it is not ours then
        return
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an OSError while its owner lives
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(owner)
