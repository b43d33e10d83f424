"""A folder of compiled objects under the digest of what they were compiled from. Every process may use it at once."""

import hashlib
import os
import re
import secrets
import time
import warnings
from contextlib import suppress
from pathlib import Path

from tesa.base.files import cache_dir

LIMIT = 2 * 1024**3
"""Bytes that the cache may hold before the entries that were not used for longest are removed."""

_MAGIC = b"tesa-object-1\n"
_DIGEST = 32
_KEY = re.compile(r"[0-9a-z]{2,128}", re.ASCII)  # a digest: it may come from a worker of a cluster
_AFTER_TRIM = 0.9  # of the limit: so that not every build trims
_ABANDONED_S = 24 * 3600.0  # a file written aside and as old as this belongs to a process that died


class Cache:
    """Bytes by key. An entry carries its own digest: a torn or damaged one reads as missing and is removed.

    A cache that cannot be written is no error: what it would have held is compiled again. It warns once.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     cache = Cache(Path(folder))
    ...     cache.put("ab12", b"object")
    ...     cache.get("ab12"), cache.get("cd34")
    (b'object', None)
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.folder = cache_dir() / "objects" if folder is None else folder
        self.limit = limit
        self._warned = False

    def get(self, key: str) -> bytes | None:
        """The bytes that were put under the key, or None. The entry counts as used now."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        payload = data[len(_MAGIC) + _DIGEST :]
        if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) :][:_DIGEST] != hashlib.sha256(payload).digest():
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # another process may have removed it meanwhile; the bytes are here
            os.utime(path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Keep the bytes under the key: written aside, then moved into place."""
        path = self._path(key)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(_MAGIC + hashlib.sha256(payload).digest() + payload)
            os.replace(aside, path)
        except OSError as error:
            with suppress(OSError):
                aside.unlink()
            self._warn(error)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise

    def trim(self) -> None:
        """Remove what was not used for longest until the limit holds, and what dead processes left behind."""
        found = []
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                stat = path.stat()
                if path.name.startswith("."):
                    if time.time() - stat.st_mtime > _ABANDONED_S:
                        path.unlink()
                else:
                    found.append((stat.st_mtime, path, stat.st_size))
        total = sum(size for _, _, size in found)
        if total <= self.limit:
            return
        for _, path, size in sorted(found):
            if total <= _AFTER_TRIM * self.limit:
                return
            with suppress(OSError):
                path.unlink()
            total -= size

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key[:80]!r} is no key of the cache")
        return self.folder / key[:2] / key

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            reason = error.strerror or str(error)
            warnings.warn(
                f"cannot write tesa's cache in {self.folder}: {reason}; kernels will be compiled each time "
                "(set TESA_CACHE_DIR to another folder)",
                stacklevel=3,
            )
