"""tesa bundle: what it gathers for each kind of compiled file, and what it refuses."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from tesa.bundle.bundle import bundle
from tesa.bundle.runtime import licences
from tesa.cli import main
from tesa.compiler import compile_model
from tesa.errors import ModelError, UsageError
from tesa.kernels.kernel import kernel
from tests.frontend.onnx_models import floats
from tests.runtime.models import build, mlp
from tests.support import require_system

NATIVE = platform.machine()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same small network in every form."""
    folder = tmp_path_factory.mktemp("models")
    build(folder, mlp(), name="vm")
    for name, options in (
        ("bare.so", {"format": "so"}), ("bare_o.o", {"format": "o"}), ("bare_c.c", {"format": "c"}),
        ("web.wasm", {"target": "wasm32"}),
    ):  # fmt: skip
        compile_model(mlp(), output=folder / name, measure=False, **options)
    kernel(floats(8, 6), n=5, measure=False).save(folder / "k.so")
    return folder


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def code(readme: Path, start: str, stop: str = "## ") -> str:
    """The indented lines of a README from one that begins with some text to one that begins with another."""
    lines = readme.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"    {start}"))
    found = []
    for line in lines[first:]:
        if line.strip() and (not line.startswith("    ") or line.strip().startswith(stop)):
            break
        found.append(line[4:])
    return "\n".join(found).strip()


@pytest.mark.slow
def test_a_model_for_the_virtual_machine_builds_as_its_readme_says(tmp_path: Path, models: Path) -> None:
    compiler = require_system("g++", "g++")
    made = bundle(models / "vm.so", tmp_path / "app")
    assert (made.kind, made.arch) == ("vm", NATIVE)
    assert {
        "vm.so", "vm.json", "lib/libtvm_runtime.so", "lib/libtvm_ffi.so", "include/tesa.hpp", "include/tvm/ffi/c_api.h",
        "include/dlpack/dlpack.h", "python/tesa_model.py", "python/requirements.txt", "README.md", "bundle.json",
    } <= names(made.path)  # fmt: skip
    lines = code(made.path / "README.md", "#include", "g++").splitlines()
    source = [
        lines[0],
        "#include <cstdio>",
        "int main() {",
        *lines[1:],
        'std::printf("%d\\n", (int)outputs[0].numel());',
        "}",
    ]
    (made.path / "app.cc").write_text("\n".join(source))
    build_line = code(made.path / "README.md", "g++").replace("g++ ", f"{compiler} -Wall -Wextra -Werror -O0 ", 1)
    subprocess.run(build_line, shell=True, cwd=made.path, check=True)
    done = subprocess.run(["./app"], cwd=made.path, capture_output=True, text=True, check=True)
    assert done.stdout == "12\n"


def test_python_runs_in_the_bundle_as_its_readme_says(tmp_path: Path, models: Path) -> None:
    made = bundle(models / "vm.so", tmp_path / "app")
    text = code(made.path / "README.md", "from tesa_model")
    script = f"import numpy as np\nx0 = np.ones((4, 6), 'float32')\n{text}\nprint(outputs['y'].shape)"
    environment = {**os.environ, "PYTHONPATH": str(made.path / "python")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=made.path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "(4, 3)\n"


@pytest.mark.parametrize("name", ["bare.so", "bare_o.o", "bare_c.c"])
def test_a_network_without_a_runtime_builds_as_its_readme_says(tmp_path: Path, models: Path, name: str) -> None:
    compiler = require_system("cc", "gcc")
    made = bundle(models / name, tmp_path / "app")
    stem = Path(name).stem
    assert made.kind == "bare"
    assert names(made.path) == {
        name, f"{stem}.json", f"{stem}.h", "README.md", "bundle.json", "licences/tesa-LICENSE",
    }  # fmt: skip
    lines = code(made.path / "README.md", "#include", "cc").splitlines()
    source = [
        lines[0], "#include <stdio.h>", "#include <stdlib.h>", "int main(void) {", *lines[1:],
        'printf("%d\\n", status); free(arena); return 0; }',
    ]  # fmt: skip
    (made.path / "app.c").write_text("\n".join(source))
    build_line = code(made.path / "README.md", "cc ").replace("cc ", f"{compiler} -std=c11 -Wall -Wextra -Werror ", 1)
    subprocess.run(build_line, shell=True, cwd=made.path, check=True)
    assert subprocess.run(["./app"], cwd=made.path, capture_output=True, text=True, check=True).stdout == "0\n"


def test_a_module_runs_in_node_as_its_readme_says(tmp_path: Path, models: Path) -> None:
    node = require_system("node", "nodejs")
    made = bundle(models / "web.wasm", tmp_path / "app")
    assert made.kind == "wasm"
    assert {"web.wasm", "web.h", "web.json", "tesa.js", "tesa.d.ts"} <= names(made.path)
    (made.path / "app.mjs").write_text(code(made.path / "README.md", "import") + "\nconsole.log(y.length);\n")
    done = subprocess.run([node, "app.mjs"], cwd=made.path, capture_output=True, text=True, check=True)
    assert done.stdout == "12\n"


def test_a_kernel(tmp_path: Path, models: Path) -> None:
    made = bundle(models / "k.so", tmp_path / "app")
    assert made.kind == "kernel"
    assert {"k.so", "k.json", "lib/libtvm_ffi.so", "README.md"} <= names(made.path)
    assert "`X` float32 [6, 5] -> `Y` float32 [8, 5]" in (made.path / "README.md").read_text()


def test_a_bundle_is_written_over_and_another_folder_is_not(tmp_path: Path, models: Path) -> None:
    output = tmp_path / "app"
    bundle(models / "vm.so", output)
    (output / "mine.txt").write_text("mine")
    bundle(models / "web.wasm", output)
    assert names(output) == {
        "mine.txt", "web.wasm", "web.json", "web.h", "tesa.js", "tesa.d.ts", "README.md", "bundle.json",
        "licences/tesa-LICENSE",
    }  # fmt: skip
    assert not (output / "lib").exists()
    with pytest.raises(UsageError, match="it is not empty, and no bundle"):
        bundle(models / "vm.so", models)
    with pytest.raises(UsageError, match="it is a file"):
        bundle(models / "vm.so", models / "vm.json")


def test_the_licences_are_there(tmp_path: Path, models: Path) -> None:
    made = bundle(models / "vm.so", tmp_path / "app")
    found = {path.name: path.read_text() for path in (made.path / "licences").iterdir()}
    assert set(found) == {"tesa-LICENSE", *licences()}
    assert {"apache-tvm-LICENSE", "apache-tvm-NOTICE", "apache-tvm-ffi-LICENSE"} <= set(found)
    assert all("Apache License" in found[name] for name in found if name.endswith(("tvm-LICENSE", "ffi-LICENSE")))


def wheels(folder: Path, arch: str, runtime: bytes = b"runtime") -> Path:
    """A folder with what the wheels of the runtime for a machine hold, as far as it matters."""
    folder.mkdir()
    for package, member, content in (
        ("apache-tvm", "tvm/lib/libtvm_runtime.so", runtime), ("apache-tvm-ffi", "tvm_ffi/lib/libtvm_ffi.so", b"ffi"),
    ):  # fmt: skip
        name = f"{package.replace('-', '_')}-{version(package)}-py3-none-manylinux_2_28_{arch}.whl"
        with zipfile.ZipFile(folder / name, "w") as wheel:
            wheel.writestr(member, content)
    return folder


def test_for_another_machine_the_runtime_is_out_of_wheels(tmp_path: Path, models: Path) -> None:
    other = "aarch64" if NATIVE == "x86_64" else "x86_64"
    content = bytearray((models / "vm.so").read_bytes())
    content[18] = 183 if other == "aarch64" else 62  # the machine in the header
    (tmp_path / "m.so").write_bytes(content)
    shutil.copy(models / "vm.json", tmp_path / "m.json")
    with pytest.raises(UsageError, match=rf"made for {other}.*pip download.*manylinux_2_28_{other}.*--wheels wheels"):
        bundle(tmp_path / "m.so", tmp_path / "app")
    assert not (tmp_path / "app").exists()
    made = bundle(tmp_path / "m.so", tmp_path / "app", wheels(tmp_path / "wheels", other))
    assert made.arch == other
    assert (made.path / "lib" / "libtvm_runtime.so").read_bytes() == b"runtime"
    assert (made.path / "lib" / "libtvm_ffi.so").read_bytes() == b"ffi"
    with pytest.raises(UsageError, match=rf"has no wheel apache_tvm-.*{NATIVE}\.whl; get it with `pip download"):
        bundle(models / "vm.so", tmp_path / "app2", tmp_path / "wheels")
    next((tmp_path / "wheels").glob("apache_tvm-*")).write_text("no wheel")
    with pytest.raises(UsageError, match="is damaged, or no wheel of apache-tvm"):
        bundle(tmp_path / "m.so", tmp_path / "app3", tmp_path / "wheels")


def test_what_is_no_compiled_model_is_refused(tmp_path: Path, models: Path) -> None:
    for name in ("vm.so", "vm.json", "web.wasm", "web.json"):
        shutil.copy(models / name, tmp_path)
    (tmp_path / "cut.so").write_bytes((models / "vm.so").read_bytes()[:5000])
    (tmp_path / "text.so").write_text("text")
    (tmp_path / "text.wasm").write_text("text")
    for name in ("cut", "text"):
        shutil.copy(models / "vm.json", tmp_path / f"{name}.json")
    (tmp_path / "alone.so").write_bytes((models / "vm.so").read_bytes())
    (tmp_path / "odd.so").write_bytes((models / "vm.so").read_bytes())
    (tmp_path / "odd.json").write_text("{}")
    shutil.copy(models / "vm.so", tmp_path / "other.so")
    shutil.copy(models / "web.json", tmp_path / "other.json")
    changed = {**json.loads((models / "vm.json").read_text()), "digest": "0123456789abcdef"}
    (tmp_path / "vm.json").write_text(json.dumps(changed))
    (tmp_path / "m.onnx").write_text("")
    for name, error, said in (
        ("none.so", ModelError, "no such file"),
        ("m.onnx", UsageError, "is no compiled model; compile it first"),
        ("vm.json", UsageError, "expected what `tesa compile` writes"),
        ("cut.so", ModelError, "it is cut off"),
        ("text.so", ModelError, "it is no shared library"),
        ("text.wasm", ModelError, "is no WebAssembly"),
        ("alone.so", ModelError, "alone.json: cannot be read"),
        ("odd.so", ModelError, "is not the description of a compiled model"),
        ("vm.so", ModelError, "belongs to another library than vm.so"),
        ("web.wasm", ModelError, "web.h: cannot be found"),
    ):
        with pytest.raises(error, match=re.escape(said)):
            bundle(tmp_path / name, tmp_path / "app")
        assert not (tmp_path / "app").exists()


def test_the_verb(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(models / "web.wasm"), "-o", str(tmp_path / "app"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kind"] == "wasm"
    assert data["bytes"] == sum(file["bytes"] for file in data["files"])
    assert main(["bundle", str(models / "web.wasm"), "-o", str(tmp_path / "app")]) == 0
    assert "web.wasm" in capsys.readouterr().out
    assert main(["bundle", str(tmp_path / "none.so"), "-o", str(tmp_path / "app")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_several_sizes_are_listed(tmp_path: Path) -> None:
    from tests.frontend.onnx_models import model, node, port

    proto = model([node("Add", ["x", "one"], "y")], [port("x", ["a"])], ["y"], {"one": np.ones(1, np.float32)})
    build(tmp_path, proto, shapes={"a": [3, 5]})
    text = (bundle(tmp_path / "model.so", tmp_path / "app").path / "README.md").read_text()
    assert "- `x` float32 [3] -> `y` float32 [3]\n- `x` float32 [5] -> `y` float32 [5]\n" in text
