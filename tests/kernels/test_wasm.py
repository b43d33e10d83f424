"""Single kernels as WebAssembly: chosen by times in Node.js, called from Python, saved as a module without imports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tesa
from tesa.errors import CheckFailed, UsageError
from tesa.measure.node.session import Place, Session
from tests.node import require_node
from tests.support import logged

RNG = np.random.default_rng(0)
WEIGHT = (RNG.standard_normal((24, 40)) * (RNG.random((24, 40)) < 0.2)).astype(np.float32)
X = RNG.standard_normal((40, 20)).astype(np.float32)


@pytest.fixture(autouse=True)
def _node() -> None:
    require_node()


def test_it_is_measured_recorded_and_right(tmp_path: Path) -> None:
    options = {"n": 20, "epilogue": "bias+relu", "bias": np.ones(24), "target": "wasm32", "log": tmp_path}
    kernel = tesa.kernel(WEIGHT, family=["indexed", "dense"], **options)
    assert kernel.plan.parts[0].reason.startswith("measured")
    np.testing.assert_allclose(kernel(X), np.maximum(WEIGHT @ X + 1, 0), rtol=1e-4, atol=1e-4)
    out = np.zeros((24, 20), np.float32)
    assert kernel(X + 1, out=out) is out
    np.testing.assert_allclose(out, np.maximum(WEIGHT @ (X + 1) + 1, 0), rtol=1e-4, atol=1e-4)
    assert kernel.time(budget_ms=5).min_ms > 0
    records = logged(*tmp_path.glob("node-*.jsonl"))
    assert records
    assert all("V8" in record["device"]["engine"] for record in records)
    assert "f32x4.mul" in kernel.show("asm")
    with pytest.raises(UsageError, match="X"):
        kernel(X[:5])


def test_a_residual_and_codes(tmp_path: Path) -> None:
    residual = RNG.standard_normal((24, 20)).astype(np.float32)
    kernel = tesa.kernel(WEIGHT, n=20, epilogue="residual", target="wasm32", measure=False)
    np.testing.assert_allclose(kernel(X, residual), WEIGHT @ X + residual, rtol=1e-4, atol=1e-4)
    codes = RNG.integers(-9, 9, (8, 12))
    x = RNG.integers(0, 255, (12, 20), np.uint8)
    whole = tesa.kernel(codes, n=20, dtype="int8", target="wasm32:relaxed", measure=False)
    np.testing.assert_array_equal(whole(x), codes @ x.astype(np.int64))


def test_a_saved_module_stands_alone(tmp_path: Path) -> None:
    kernel = tesa.kernel(WEIGHT, n=20, target="wasm32", measure=False)
    with pytest.raises(UsageError, match=r"give a name that ends in \.wasm"):
        kernel.save(tmp_path / "k.so")
    path = kernel.save(tmp_path / "k.wasm")
    again = tesa.kernel(WEIGHT, n=20, target="wasm32", measure=False).save(tmp_path / "again.wasm")
    assert path.read_bytes() == again.read_bytes()
    assert "addresses" in json.loads(path.with_suffix(".json").read_text())["call"]
    X.tofile(tmp_path / "x")
    with Session() as session:
        module = session.load(path, "entry", [Place(X.nbytes, str(tmp_path / "x"), 4), Place(24 * 20 * 4)])
        assert session.call(module, 60) == 0
        assert session.ask({"do": "ask", "id": module, "symbol": "tesa_target", "args": []})["text"] == "wasm32:simd128"
        session.ask({"do": "read", "id": module, "index": 1, "file": str(tmp_path / "y")})
    np.testing.assert_allclose(
        np.fromfile(tmp_path / "y", np.float32).reshape(24, 20), WEIGHT @ X, rtol=1e-4, atol=1e-4
    )


def test_without_node_it_can_be_made_and_not_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NODE", str(tmp_path / "nosuch"))
    kernel = tesa.kernel(WEIGHT, n=20, target="wasm32", log=tmp_path)
    assert kernel.plan.parts[0].reason.endswith("(this machine cannot run wasm32:simd128)")
    assert kernel.save(tmp_path / "k.wasm").exists()
    with pytest.raises(UsageError, match="apt-get install nodejs"):
        kernel(X)


def test_a_process_that_ends_is_an_error_and_the_next_call_begins_anew() -> None:
    kernel = tesa.kernel(WEIGHT, n=20, target="wasm32", measure=False)
    kernel(X)
    session = kernel._entry._session
    session._process.kill()
    with pytest.raises(CheckFailed, match=r"Node\.js ended with signal 9"):
        kernel(X)
    np.testing.assert_allclose(kernel(X), WEIGHT @ X, rtol=1e-4, atol=1e-4)
