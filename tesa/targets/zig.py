"""zig as a C compiler: it brings its own C libraries, and so compiles and links for any machine where nothing else can.

Its first use for a machine builds that library, which takes minutes; what it made is kept in the cache.
"""

import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

from tesa.base.files import atomic_path, cache_dir

INSTALL = "pip install ziglang"

_SCRIPT = """#!/bin/sh
# zig as a C compiler for {triple}; tesa wrote it, and writes it anew where it is gone.
# zig makes code for the oldest CPU by itself, and knows other names of it.
for word in "$@"; do
  shift
  case "$word" in
    -dumpmachine) echo {triple}; exit 0 ;;
    -march=* | -mtune=*) ;;
    *) set -- "$@" "$word" ;;
  esac
done
[ -n "$ZIG_GLOBAL_CACHE_DIR" ] || ZIG_GLOBAL_CACHE_DIR={cache}
export ZIG_GLOBAL_CACHE_DIR
exec {zig} cc -target {triple} "$@"
"""


def zig() -> str | None:
    """The path of zig: the command, else that of the package ziglang from PyPI; None where there is neither."""
    if path := shutil.which("zig"):
        return path
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        return None
    path = str(Path(spec.origin).parent / "zig")
    return path if Path(path).is_file() else None


def compiler(triple: str) -> str | None:
    """A command that compiles C and links for a triple, as zig writes it ("aarch64-linux-gnu"); None without zig.

    It is a script in the cache: whoever calls a compiler takes one word for it.
    """
    found = zig()
    if found is None:
        return None
    folder = cache_dir() / "zig"
    path = folder / f"{triple}-zig"
    text = _SCRIPT.format(triple=triple, cache=shlex.quote(str(folder / "cache")), zig=shlex.quote(found))
    if not path.is_file() or path.read_text() != text:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as aside:
            aside.write_text(text)
            aside.chmod(0o755)
    return str(path)
