"""A user's own file of policies, patterns, kernel families and propagation rules, imported by its path.

What it registers is known to this process from then on, and goes with the work to the processes that generate code.
"""

import hashlib
import importlib
import re
import sys
import traceback
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from tesa.errors import UsageError

PREFIX = "tesa_extension_"
"""The beginning of the names of such modules, which no other process can import by name."""

_BEFORE = ("tesa.schedules.cpu", "tesa.decompose", "tesa.propagate.rules")  # so that a name they take is known as taken


def load_extension(path: str | Path, source: str = "") -> ModuleType:
    """Import the file, once; the module that it made. Its folder goes to the end of sys.path.

    source: what an error says behind the path: who named it.

    Raises UsageError, with the file, the line and the error, where the file is missing or cannot be imported.

    >>> load_extension("nowhere.py")
    Traceback (most recent call last):
    ...
    tesa.errors.UsageError: extension nowhere.py: no such file
    """
    given, full = f"{path}{source}", Path(path).absolute().resolve()
    if not full.is_file():
        raise UsageError(f"extension {given}: {'a folder; name its files' if full.is_dir() else 'no such file'}")
    stem = re.sub(r"\W", "_", full.stem)
    name = f"{PREFIX}{stem}_{hashlib.sha256(str(full).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    for module in _BEFORE:
        importlib.import_module(module)
    if str(full.parent) not in sys.path:
        sys.path.append(str(full.parent))
    loader = SourceFileLoader(name, str(full))
    spec = spec_from_loader(name, loader)
    if spec is None:
        raise UsageError(f"extension {given}: not a Python file")
    made = module_from_spec(spec)
    sys.modules[name] = made
    try:
        loader.exec_module(made)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"extension {given}{_place(error, full)}: {_what(error)}") from error
    return made


def _place(error: BaseException, path: Path) -> str:
    """The line of the file in which it happened."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        other = "" if error.filename == str(path) else f" of {error.filename}"
        return f", line {error.lineno}{other}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _what(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}".strip().splitlines()[0].removesuffix(": ")
