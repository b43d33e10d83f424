"""Families that a user wrote reach the compiler processes, wherever their code is."""

from __future__ import annotations

import importlib.util
import linecache
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tesa.schedules.cpu  # noqa: F401  (registers its families now, not into the test's registry)
from tesa.build.cache import Cache
from tesa.errors import UsageError
from tesa.schedules import registry
from tesa.schedules.cpu.writers.registry import find_writer, forget_writer, writer
from tesa.schedules.program import Program
from tesa.schedules.types import Assembly, Core
from tesa.tune.builders import LocalBuilder
from tesa.tune.builders.families import Families, adopt, gather
from tests.tune.builders import toys
from tests.tune.builders.toys import build, contents, request

FAMILY = """
from tesa.schedules.registry import find, family

def space(problem, weight, core):
    return [{}]

def estimate(problem, weight, core, config):
    return helper.price()

@family("users", kind="cpu", space=space, estimate=estimate)
def emit(problem, weight, core, config, symbol):
    '''The dense kernel, under another name.'''
    assert helper.price() == 2.0
    dense = find("dense")
    return dense.emit(problem, weight, core, dense.space(problem, weight, core)[0], symbol)
"""


def test_tesas_own_families_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    families = gather()
    assert families.added == b""
    assert "tesa.schedules.cpu.unrolled" in families.modules
    assert gather().digest == families.digest
    monkeypatch.setattr(registry, "_FAMILIES", {**registry._FAMILIES, **toys.families()})
    assert gather().digest != families.digest


def test_a_users_file_is_sent_with_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler processes cannot import it: it was loaded by its path."""
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    (tmp_path / "users_helper.py").write_text("def price():\n    return 2.0\n")
    (tmp_path / "users_family.py").write_text("import users_helper as helper\n" + FAMILY)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.spec_from_file_location("users_family", tmp_path / "users_family.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "users_family", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "path", [item for item in sys.path if item != str(tmp_path)])
    with LocalBuilder(1, Cache(tmp_path / "objects")) as builder:
        contents(build(builder, [request("users")], tmp_path / "out"))
    monkeypatch.delitem(sys.modules, "users_helper")


def test_a_family_of_a_script(tmp_path: Path) -> None:
    """Without a main guard, as in a notebook: no child runs it again."""
    script = FAMILY + textwrap.dedent("""
        import sys
        from pathlib import Path
        import numpy as np
        from tesa.schedules.types import Problem
        from tesa.build.cache import Cache
        from tesa.targets.target import parse_target
        from tesa.tune.builders import LocalBuilder
        from tesa.measure.interfaces import BuildRequest

        class helper:
            price = staticmethod(lambda: 2.0)

        print("begin")
        problem = Problem("linear", 4, 4, 16, (1, 4, 16), (1, 4, 16))
        request = BuildRequest(problem, np.eye(4, dtype=np.float32), parse_target("x86:haswell"), "users", {})
        with LocalBuilder(1, Cache(Path(sys.argv[1]) / "objects")) as builder:
            print(list(builder.build([request], Path(sys.argv[1]))))
    """)
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begin") == 1
    assert "Product(symbol='tesa_" in done.stdout


def test_what_cannot_be_sent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()

    def locked(*arguments: object) -> None:
        lock.acquire()

    family = toys.family("locked", locked)  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "_FAMILIES", {**registry._FAMILIES, ("cpu", "locked"): family})
    with pytest.raises(
        UsageError, match=r"families locked cannot be sent to the compiler processes: TypeError: .*lock"
    ):
        gather()


def test_cloudpickle_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    assert gather().added == b""
    monkeypatch.setattr(registry, "_FAMILIES", {**registry._FAMILIES, **toys.families()})
    with pytest.raises(UsageError, match=r"needs cloudpickle: pip install .*'cloudpickle"):
        gather()


def test_adopting_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(registry._FAMILIES)
    monkeypatch.setattr(registry, "_FAMILIES", {**known, **toys.families()})
    families = gather()
    monkeypatch.setattr(registry, "_FAMILIES", dict(known))
    adopt(families)
    assert set(registry._FAMILIES) == set(known) | set(toys.families())
    assert all(registry._FAMILIES[name] is family for name, family in known.items())


SCRIPTED = '''
import numpy as np
from tvm.script import ir as I, tirx as T

from tesa.schedules.registry import family
from tesa.schedules.types import Code

def space(problem, weight, core):
    return [{}]

@family("scripted", kind="cpu", space=space, estimate=lambda problem, weight, core, config: 1.0)
def emit(problem, weight, core, config, symbol):
    """Y = 0, written out."""
    batch, m, k, n = problem.batch, problem.m, problem.k, problem.n

    FORM

    return Code(main.with_attr("global_symbol", symbol), (weight,))
'''
FUNCTION = """
    @T.prim_func
    def main(
        X: T.Buffer((batch, k, n), "float32", align=4),
        W: T.Buffer((m, k), "float32", align=4),
        Y: T.Buffer((batch, m, n), "float32", align=4),
    ):
        T.func_attr({"tirx.noalias": True})
        for b, i, j in T.grid(batch, m, n):
            Y[b, i, j] = T.float32(0)
"""
_MODULE = "\n    @I.ir_module\n    class Module:"
CLASS = _MODULE + FUNCTION.replace("\n    ", "\n        ") + '\n    main = Module["main"]\n'


@pytest.mark.slow
@pytest.mark.parametrize("form", [FUNCTION, CLASS], ids=["function", "class"])
@pytest.mark.parametrize("name", ["file", "<ipython-input-7-0123456789ab>"], ids=["file", "cell"])
def test_a_family_in_tvmscript_takes_its_text_along(
    form: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TVMScript reads the text where the family emits: in a child, for which there is no such file."""
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    text = SCRIPTED.replace("    FORM\n", form)
    path = tmp_path / "elsewhere" / "scripted_family.py"
    file = str(path) if name == "file" else name
    monkeypatch.setitem(linecache.cache, file, (len(text), None, text.splitlines(keepends=True), file))
    module = ModuleType("scripted_family" if name == "file" else "__main__")
    if name == "file":
        module.__file__ = file
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, file, "exec"), module.__dict__)
    with LocalBuilder(1, Cache(tmp_path / "objects")) as builder:
        contents(build(builder, [request("scripted")], tmp_path / "out"))


def test_adopted_sources_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FAMILIES", {**registry._FAMILIES, **toys.families()})
    families = gather()
    assert any("def killing_once" in text for _, text in families.sources.texts)
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    monkeypatch.setattr(linecache, "cache", dict[str, Any]())
    adopt(families)
    assert {name for name, _ in families.sources.texts} <= set(linecache.cache)
    adopt(Families(families.modules))
    assert not {name for name, _ in families.sources.texts} & set(linecache.cache)


def test_a_writer_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core("mine", 8, 16, writer="mine")

    @writer("mine", function_fmas=100, object_fmas=100, effort=1)
    def write(programs: Sequence[Program], core: Core) -> Assembly:
        return Assembly("mine", "nothing")

    try:
        families = gather()
    finally:
        forget_writer("mine")
    assert families.added
    adopt(families)
    try:
        assert find_writer(core).write([], core) == Assembly("mine", "nothing")
    finally:
        adopt(Families(()))
    with pytest.raises(KeyError, match="no writer 'mine'"):
        find_writer(core)
