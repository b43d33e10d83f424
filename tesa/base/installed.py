"""A digest of installed source files, for the keys of caches: whatever was computed by other files is computed anew."""

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path


@lru_cache(maxsize=8)
def source_digest(*names: str) -> str:
    """32 hexadecimal digits of the source files of packages and modules, as they are installed now.

    >>> source_digest("tesa.schedules") == source_digest("tesa.schedules") != source_digest("tesa.base")
    True
    """
    hasher = hashlib.sha256()
    for name in names:
        found = find_spec(name)
        folders = [Path(folder) for folder in (found and found.submodule_search_locations) or ()]
        paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
        if found is not None and found.origin and not folders:
            paths = [Path(found.origin)]
        for path in paths:
            hasher.update(f"{name} {path.name}\n".encode())
            hasher.update(path.read_bytes())
    return hasher.hexdigest()[:32]
