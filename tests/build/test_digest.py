"""A digest of code: the same for the same code in any process and under any name, and for no other code."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm

import tesa.decompose  # noqa: F401  (registers the families)
from tesa.build.digest import code_digest
from tesa.schedules.registry import families, find
from tesa.schedules.types import Assembly, Code, Core, Epilogue, Problem
from tesa.targets.target import parse_target
from tests.build import toy
from tests.support import with_tests

CORE = Core("avx512", lanes=16, registers=32, masks=True, writer="x86")
PROBLEM = Problem("linear", 8, 24, 40, (1, 24, 40), (1, 8, 40), epilogue=Epilogue(bias=True))


RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((8, 24)) * (RNG.random((8, 24)) < 0.3)).astype(np.float32)


def emitted(family: str, symbol: str, scale: float = 1.0) -> Code:
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((8, 24)) * (rng.random((8, 24)) < 0.3) * scale).astype(np.float32)
    made = find(family)
    return made.emit(PROBLEM, weight, CORE, made.space(PROBLEM, weight, CORE)[0], symbol)


def digest(family: str, symbol: str = "tesa_0123456789abcdef", scale: float = 1.0) -> str:
    return code_digest(emitted(family, symbol, scale), symbol)


@pytest.mark.parametrize("family", ["dense", "indexed", "block", "unrolled"])
def test_the_name_is_no_part_of_it_and_a_weight_is(family: str) -> None:
    assert digest(family) == digest(family, "tesa_fedcba9876543210")
    assert digest(family) != digest(family, scale=2.0)
    assert len(digest(family)) == 16


def test_another_process_gives_the_same() -> None:
    families = ["dense", "unrolled"]
    script = f"from tests.build.test_digest import digest\nprint(*map(digest, {families}))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=with_tests(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(family) for family in families]


def test_every_part_counts() -> None:
    symbol = "tesa_0123456789abcdef"
    code = emitted("unrolled", symbol)
    (panel,) = code.panels
    assert isinstance(panel, Assembly)
    others = [
        code,
        replace(code, panels=()),
        replace(code, panels=(replace(panel, text=panel.text.replace("vaddps", "vmulps", 1)),)),
        replace(code, main=emitted("dense", symbol).main),
        replace(code, pipeline="straight"),
        replace(code, constants=(np.zeros(3, np.float32),)),
        replace(code, constants=(np.zeros((1, 3), np.float32),)),
        replace(code, constants=(np.zeros(3, np.int32),)),
        replace(code, pieces=((symbol + "_0", emitted("dense", symbol + "_0")),)),
    ]
    assert len({code_digest(other, symbol) for other in others}) == len(others)


def test_neighbouring_numbers_differ() -> None:
    near = [1.0, np.nextafter(np.float32(1), np.float32(2)).item(), np.float32(1e-45).item(), -0.0, 0.0]
    weight = toy.weight(toy.linear())
    digests = {code_digest(toy.code(toy.linear(), weight, "tesa_a", error=value), "tesa_a") for value in near}
    assert len(digests) == len(near)


def test_a_functions_place_in_its_file_does_not_count(tmp_path: Path) -> None:
    """A family of a user is TVMScript, which remembers its lines."""
    text = Path(toy.__file__).read_text()
    (tmp_path / "moved.py").write_text(text.replace('"""', '"""One more line.\n\n', 1))
    sys.path.insert(0, str(tmp_path))
    try:
        import moved  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(tmp_path))
    problem = toy.linear()
    digests = {code_digest(file.code(problem, toy.weight(problem), "tesa_a"), "tesa_a") for file in (toy, moved)}
    assert len(digests) == 1


def test_the_names_of_variables_do_not_count() -> None:
    def function(name: str) -> Code:
        rows = tvm.tirx.Var(name, "int32")
        body = tvm.tirx.For(rows, 0, 4, tvm.tirx.ForKind.SERIAL, tvm.tirx.Evaluate(rows + 1))
        return Code(tvm.tirx.PrimFunc([], body).with_attr("global_symbol", "tesa_a"))

    assert code_digest(function("row"), "tesa_a") == code_digest(function("line"), "tesa_a")


@pytest.mark.parametrize("target", ["x86:haswell", "x86:znver5"])
def test_every_family_under_two_names(target: str) -> None:
    core = parse_target(target).core
    found = {}
    for family in families("cpu"):
        for config in list(family.space(PROBLEM, WEIGHT, core))[:3]:
            one, other = (family.emit(PROBLEM, WEIGHT, core, config, name) for name in ("tesa_one", "tesa_another"))
            digest = code_digest(one, "tesa_one")
            assert code_digest(other, "tesa_another") == digest
            found[family.name, str(config)] = digest
    assert len({name for name, _ in found}) > 3
    assert len(set(found.values())) == len(found)
