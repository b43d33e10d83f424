"""apps/web/tesa.js in Node.js: its own tests on small models, its types, and the package as npm would publish it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tesa.compiler import compile_model
from tests.frontend.onnx_models import floats, model, node, port
from tests.runtime.models import mlp
from tests.support import require_system

from .places import APPS

WEB = APPS / "web"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models for the tests in JavaScript, and what comes out of them."""
    folder = tmp_path_factory.mktemp("models")
    weights = {tensor.name: np.asarray(_array(tensor)) for tensor in mlp().graph.initializer}
    x = floats(4, 6)
    y = np.maximum(x @ weights["w0"] + weights["b"], 0) @ weights["w1"]
    table = floats(5, 4)
    expected = {
        "mlp": {"x": x.reshape(-1).tolist(), "y": y.reshape(-1).tolist()},
        "table": {"ids": [4, 0, 2], "y": table[[4, 0, 2]].reshape(-1).tolist()},
    }
    (folder / "expected.json").write_text(json.dumps(expected))
    one = np.ones(1, np.float32)
    sizes = model([node("Add", ["x", "one"], "y")], [port("x", ["a", "b"])], ["y"], {"one": one})
    gather = model([node("Gather", ["t", "ids"], "y")], [port("ids", [3], "int64")], ["y"], {"t": table})
    for name, proto, target, shapes in (
        ("mlp", mlp(), "wasm32", None),
        ("mlp-relaxed", mlp(), "wasm32:relaxed", None),
        ("sizes", sizes, "wasm32", {"x": [[2, 6], [3, 4], [4, 3]]}),
        ("table", gather, "wasm32", None),
    ):
        compile_model(proto, output=folder / f"{name}.wasm", target=target, shapes=shapes, measure=False)
    return folder


def _array(tensor: object) -> object:
    import onnx.numpy_helper

    return onnx.numpy_helper.to_array(tensor)


def test_its_own_tests(models: Path) -> None:
    node_js = require_system("node", "nodejs")
    done = subprocess.run(
        [node_js, "--test", str(WEB / "test")], env={**os.environ, "MODELS": str(models)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
    assert "# pass 12" in done.stdout


def test_relaxed_simd_where_node_has_it(models: Path) -> None:
    node_js = require_system("node", "nodejs")
    flag = "--experimental-wasm-relaxed-simd"
    if subprocess.run([node_js, flag, "-e", ""], capture_output=True, check=False).returncode:
        pytest.skip("this Node.js has no such option")
    script = f"""
        import {{ load }} from {json.dumps((WEB / "tesa.js").as_uri())};
        const model = await load({{ simd128: "mlp.wasm", relaxed: "mlp-relaxed.wasm" }});
        const {{ mlp }} = JSON.parse((await import("node:fs")).readFileSync("expected.json"));
        const {{ y }} = model.run({{ x: Float32Array.from(mlp.x) }});
        console.log(JSON.stringify([model.info.target, [...y], mlp.y]));"""
    done = subprocess.run(
        [node_js, flag, "--input-type=module", "-e", script], cwd=models, capture_output=True, text=True, check=True
    )
    target, got, wanted = json.loads(done.stdout)
    assert target == "wasm32:relaxed"
    np.testing.assert_allclose(got, wanted, 1e-4, 1e-4)


def test_the_package_is_whole(tmp_path: Path, models: Path) -> None:
    node_js = require_system("node", "nodejs")
    data = json.loads((WEB / "package.json").read_text())
    assert data["license"] == "Apache-2.0"
    package = tmp_path / "node_modules" / data["name"]
    package.mkdir(parents=True)
    for name in (*data["files"], "package.json"):
        shutil.copy(WEB / name, package)
    shutil.copytree(WEB / "page", tmp_path / "elsewhere")
    (tmp_path / "main.mjs").write_text(
        f'import {{ load }} from "{data["name"]}";\n'
        f"const model = await load({json.dumps(str(models / 'mlp.wasm'))});\nconsole.log(model.inputs[0].name);\n"
    )
    done = subprocess.run([node_js, "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "x\n"
    assert (package / data["types"]).is_file()
    assert (WEB / "LICENSE").read_text() == (APPS.parent / "LICENSE").read_text()


def test_the_types_name_what_the_module_exports() -> None:
    node_js = require_system("node", "nodejs")
    script = f"console.log(Object.keys(await import({json.dumps((WEB / 'tesa.js').as_uri())})).sort().join())"
    done = subprocess.run([node_js, "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    types = (WEB / "tesa.d.ts").read_text()
    for name in done.stdout.strip().split(","):
        assert f"export class {name}" in types or f"export function {name}(" in types
