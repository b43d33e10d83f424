"""Builds the page of apps/web: compiles its modules from the digits model of tesa, and lays out a static folder.

    python apps/web/build.py --output out/web          # about a minute; then serve the folder: index.html
    python -m http.server --directory out/web 8000

The folder needs no network and no other files. offline.html in it is the same page in one file, which a browser opens
from the disk.
"""

import argparse
import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

import tesa
from tesa.models import digits_labels, digits_path

HERE = Path(__file__).parent
PAGE = ("index.html", "style.css", "app.js", "image.js")
REST = ("dense", "depthwise", "vector")
MODULES = {"sparse": ("indexed", *REST), "dense": REST}
"""The modules by name, with the kernel families that compete. `indexed` is the smallest one for scattered weights."""
SAMPLES = 40
MASK_LAYER, MASK_SIDE = "block5.pointwise", 24


def main() -> None:
    """Build the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write")
    build(parser.parse_args().output)


def build(output: Path) -> None:
    """Compile the modules and write the folder."""
    (output / "models").mkdir(parents=True, exist_ok=True)
    modules = {}
    for name, families in MODULES.items():
        sizes: dict[str, int] = {}
        for kind in ("simd128", "relaxed"):
            path = output / "models" / f"{name}-{kind}.wasm"
            compile_module(path, kind, families)
            sizes[kind] = path.stat().st_size
        modules[name] = {"bytes": sizes}
    lay_out(output, {"modules": modules, "images": images(), "mask": mask()})


def compile_module(path: Path, kind: str, families: tuple[str, ...]) -> None:
    """One module; what is written beside it, the page does not need."""
    tesa.compile(digits_path(), output=path, target=f"wasm32:{kind}", families=families, measure=False)
    for suffix in (".json", ".h"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def images() -> list[dict[str, object]]:
    """Test images, as the 8 x 8 levels that they were scanned in, and their labels: four of each digit."""
    with np.load(digits_path().with_name("digits_test.npz")) as arrays:
        scanned, labels = arrays["images8"], digits_labels()
    chosen = [np.nonzero(labels == digit)[0][turn] for turn in range(SAMPLES // 10) for digit in range(10)]
    return [{"label": int(labels[i]), "pixels": scanned[i].reshape(-1).tolist()} for i in chosen]


def mask() -> dict[str, object]:
    """A corner of a weight: where it is not zero."""
    graph = onnx.load(digits_path()).graph
    name = next(node.input[1] for node in graph.node if node.name == MASK_LAYER)
    weight = onnx.numpy_helper.to_array(next(tensor for tensor in graph.initializer if tensor.name == name))
    corner = weight.reshape(weight.shape[0], -1)[:MASK_SIDE, :MASK_SIDE] != 0
    return {"layer": MASK_LAYER, "side": MASK_SIDE, "bits": "".join("01"[int(bit)] for bit in corner.reshape(-1))}


def lay_out(output: Path, data: dict[str, object]) -> None:
    """The page, its data, and the same in one file."""
    for name in PAGE:
        shutil.copy(HERE / "page" / name, output)
    shutil.copy(HERE / "tesa.js", output)
    (output / "data.json").write_text(json.dumps(data, separators=(",", ":")))
    (output / "offline.html").write_text(one_file(output, data))


def one_file(output: Path, data: dict[str, object]) -> str:
    """The page with all that it loads inside: a browser loads no modules from the disk."""
    models = (output / "models").glob("*-simd128.wasm")
    files = {f"models/{path.name}": base64.b64encode(path.read_bytes()).decode() for path in models}
    embedded = json.dumps({"data": data, "files": files}).replace("</", "<\\/")
    blocks = [block((output / name).read_text()) for name in ("tesa.js", "image.js", "app.js")]
    script = [f"<script>globalThis.EMBEDDED = {embedded};</script>", '<script type="module">', *blocks, "</script>"]
    style = ["<style>", (output / "style.css").read_text(), "</style>"]
    page = (output / "index.html").read_text()
    page = page.replace('<link rel="stylesheet" href="style.css">', "\n".join(style))
    return page.replace('<script type="module" src="app.js"></script>', "\n".join(script))


def block(script: str) -> str:
    """A module as a block of its own: private names of two modules may be the same."""
    names = ", ".join(re.findall(r"^export (?:async )?(?:class|function|const) (\w+)", script, re.M))
    plain = re.sub(r"^import .*\n", "", re.sub(r"^export ", "", script, flags=re.M), flags=re.M)
    return f"const {{ {names} }} = (() => {{\n{plain}\nreturn {{ {names} }};\n}})();"


if __name__ == "__main__":
    main()
