"""Writes a file aside and moves it into place when it is whole, so that nobody ever reads half of one."""

import errno
import functools
import hashlib
import json
import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from tesa.base.scratch import is_temporary
from tesa.errors import UsageError

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_CREATE = {
    errno.EACCES: "no permission to write in {folder}: choose another folder, or change its permissions",
    errno.EPERM: "no permission to write in {folder}: choose another folder, or change its permissions",
    errno.EROFS: "{folder} is read-only: choose another folder",
    errno.ENAMETOOLONG: "the file name is too long: choose a shorter one",
}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty file in the folder of path; when the block ends well, it becomes path in one step.

    It has the suffix of path and a name that no other writer has. If the block raises anything, Ctrl-C included, the
    file is removed and what stood at path before stays as it was. A symbolic link is followed, not replaced.

    Raises UsageError, naming path and what to do, if the folder is missing or cannot be written, if path is a folder
    or a device, and if the disk is full, whoever reports that from inside the block.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "plan.json") as aside:
    ...         _ = aside.write_text("{}")
    ...     [file.name for file in Path(folder).iterdir()]
    ['plan.json']
    """
    target = _checked(Path(path))
    aside = _create(Path(path), target)
    try:
        yield aside
        _sync(aside)
        os.replace(aside, target)
    except Exception as error:
        reason = _full_disk(error, Path(path))
        if reason is None:
            raise
        raise UsageError(f"cannot write {path}: {reason}") from error
    finally:
        with suppress(OSError):  # gone already where it was moved into place
            aside.unlink(missing_ok=True)
    with suppress(OSError):  # not every file system lets a folder be synced
        _sync(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write the text in UTF-8 to path, whole or not at all. Errors are those of atomic_path."""
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write plain data as JSON to path, whole or not at all, the same bytes for the same data. Refuses NaN."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def cache_dir() -> Path:
    """The folder for what can be made again: $TESA_CACHE_DIR, or tesa's place in the user's cache. Need not exist."""
    given = os.environ.get("TESA_CACHE_DIR")
    return Path(given) if given else Path(platformdirs.user_cache_dir("tesa", appauthor=False))


def _checked(path: Path) -> Path:
    """The path behind all symbolic links; refuses one that cannot be replaced by a file."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; give the name of a file")
    if target.exists() and not target.is_file():
        raise UsageError(f"cannot write {path}: it is not a regular file; give the name of a file")
    if not target.parent.exists():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}; make it: mkdir -p {path.parent}")
    if not target.parent.is_dir():
        raise UsageError(f"cannot write {path}: {path.parent} is not a folder")
    return target


def _create(path: Path, target: Path) -> Path:
    _remove_litter(target)
    mine = f"{_machine()}{os.getpid():08x}{secrets.token_hex(4)}"
    aside = target.with_name(f".{target.stem[:40]}.{mine}{target.suffix}")
    try:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except OSError as error:
        text = _CREATE.get(error.errno or 0, error.strerror or str(error)).format(folder=path.parent)
        raise UsageError(f"cannot write {path}: {_full(error.errno, path) or text}") from error
    return aside


def _remove_litter(target: Path) -> None:
    """Remove what writers of this file left aside that were killed: on this machine, and whose process is gone."""
    name = re.compile(
        rf"\.{re.escape(target.stem[:40])}\.([0-9a-f]{{8}})([0-9a-f]{{8}})[0-9a-f]{{8}}{re.escape(target.suffix)}"
    )
    with suppress(OSError), os.scandir(target.parent) as found:
        for item in found:
            written = name.fullmatch(item.name)
            if written and written[1] == _machine() and not _lives(int(written[2], 16)):
                with suppress(OSError):
                    os.unlink(item.path)


@functools.cache
def _machine() -> str:
    """The machine and its view of processes, in 8 digits: a number of a process means nothing elsewhere."""
    facts = [platform.node()]
    with suppress(OSError):
        facts += [os.readlink("/proc/self/ns/pid"), Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _full_disk(error: Exception, path: Path) -> str | None:
    """A reason in words if the error tells of a full disk. Linkers tell of it only in their output."""
    number = error.errno if isinstance(error, OSError) else None
    if os.strerror(errno.ENOSPC) in str(error):
        number = errno.ENOSPC
    return _full(number, path)


def _full(number: int | None, path: Path) -> str | None:
    if number is None or number not in _FULL:
        return None
    if is_temporary(path):
        return f"{_FULL[number]}; free some space in {path.parent}, or set TMPDIR to a folder on another disk"
    return f"{_FULL[number]}; free some space in {path.parent}, or write to another disk"
