"""Functions that are sent as code take their source text along: TVMScript reads it again where a kernel is emitted.

A pickled function is byte code. `@T.prim_func` inside of it asks inspect for its text, which looks for the file that
the code names. In another process, or on another machine, there may be no such file, and cloudpickle 3.1.3 and later
do not even keep its name.
"""

import importlib
import inspect
import io
import linecache
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from types import CodeType, FunctionType, ModuleType
from typing import Any


@dataclass(frozen=True)
class Sources:
    """The source texts of functions, (name of a file, its text), and the names of the modules that they come from."""

    texts: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()


def dumps(value: Any) -> tuple[bytes, Sources]:
    """The value as cloudpickle pickles it, and the sources of all functions in it that are sent as code.

    Raises ImportError without cloudpickle, and what cloudpickle raises for what cannot be pickled.

    >>> blob, sources = dumps(lambda x: x + 1)
    >>> loads(blob, sources)(2)
    3
    """
    stream = io.BytesIO()
    made: Any = _pickler()(stream)
    made.dump(value)
    return stream.getvalue(), Sources(tuple(sorted(made.texts.items())), tuple(sorted(made.modules)))


def loads(blob: bytes, sources: Sources) -> Any:
    """The value that dumps was given. inspect finds its sources from now on, until they are forgotten."""
    for name, text in sources.texts:
        # Without a time of change linecache never compares the entry with a file.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    for name in sources.modules:
        if not _importable(name):
            sys.modules[name] = _Stub(name)  # TVM looks a class's module up there before it reads the class
    return pickle.loads(blob)


def forget(sources: Sources) -> None:
    """Undo what loads did besides loading."""
    for name, _ in sources.texts:
        linecache.cache.pop(name, None)
    for name in sources.modules:
        if isinstance(sys.modules.get(name), _Stub):
            del sys.modules[name]


class _Stub(ModuleType):
    """Stands for a module of the process that sent a function. It is empty: the function brings its own globals."""


def _importable(name: str) -> bool:
    try:
        return name in sys.modules or find_spec(name) is not None
    except (ImportError, ValueError):  # a package above it is missing, or is none
        return False


def named(file: str, make: Callable[..., CodeType], arguments: tuple[Any, ...]) -> CodeType:
    """The code object with the name of its file. Called in unpickling."""
    return make(*arguments).replace(co_filename=file)


def _pickler() -> type:
    """cloudpickle's Pickler that notes the sources of what it pickles."""
    cloudpickle = importlib.import_module("cloudpickle")

    class Noting(cloudpickle.Pickler):  # type: ignore[misc, name-defined]
        def __init__(self, stream: io.BytesIO) -> None:
            super().__init__(stream)
            self.texts: dict[str, str] = {}
            self.modules: set[str] = set()

        def reducer_override(self, found: Any) -> Any:
            if isinstance(found, CodeType):
                self._note(found)
                return named, (found.co_filename, *self.dispatch_table[CodeType](found))
            reduced = super().reducer_override(found)
            # A function that is sent by its name is reduced to that name.
            if isinstance(found, FunctionType) and isinstance(reduced, tuple) and found.__module__:
                self.modules.add(found.__module__)
            return reduced

        def _note(self, code: CodeType) -> None:
            if code.co_filename not in self.texts:
                with suppress(Exception):  # made by exec: nobody has its text, and most functions need none
                    self.texts[code.co_filename] = "".join(inspect.findsource(code)[0])

    return Noting
