"""The files that mutants are made of: small ones of each format, as tesa writes them."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tesa.base.wasm_sections import SUM, written
from tesa.build.footprint import Footprint
from tesa.choose.plan import Candidate, LayerPlan, Part, Plan
from tesa.costs.fingerprint import code_digest
from tesa.records.locations import shipped
from tesa.runtime.manifest import Manifest, Padding, SizeInfo, TensorInfo
from tesa.targets.toolchain import NATIVE

TARGET = "x86:znver5"
SYMBOL = "tesa_fuzzed"
SUBJECT = "0123456789abcdef"

_LAYERS = 24  # of a table: enough for a model of a family
_SAMPLES = 3


@cache
def files() -> dict[str, tuple[bytes, ...]]:
    """Files by the name of their format."""
    return {
        "log": (_log(),),
        "table": (_table(),),
        "manifest": tuple(_manifests()),
        "bundle": (json.dumps({"kind": "bare", "files": ["README.md", "lib/x.so", "model.o"]}).encode(),),
        "npz": (_npz(), _npz(packed=True)),
        "masks": (_npz(packed=True),),
        "cache": (b"tesa-object-1\n" + hashlib.sha256(b"an object").digest() + b"an object",),
        "wasm": (_wasm(),),
        "library": (_library(),),
        "journal": (_journal(),),
        "tracker": (_listing(),),
        "device": (json.dumps({"server": "tesa", "machine": "x86_64", "tvm": "0.27", "llvm_cpu": "znver5"}).encode(),),
    }


def _log() -> bytes:
    """Some records of those that ship with tesa, with the statistics of their weights."""
    lines = next(iter(shipped().glob("*.jsonl"))).read_bytes().splitlines()
    weights = {json.loads(line)["weight"]: line for line in lines if b'"weight"' in line[:40]}
    records = [line for line in lines if b'"task"' in line][:400:80]
    digests = [json.loads(line)["task"]["pattern"]["digest"] for line in records]
    return b"".join(line + b"\n" for line in [*(weights[d] for d in dict.fromkeys(digests) if d in weights), *records])


def _table() -> bytes:
    data = json.loads(next(iter((shipped() / "costs").glob("*.json"))).read_bytes())
    table = data["tables"][0]
    layers = [layer for layer in table["layers"] if any(row[0] == "dense" for row in layer["samples"])][:_LAYERS]
    for layer in layers:
        layer["samples"] = [row for row in layer["samples"] if row[0] == "dense"][:_SAMPLES]
    # with the estimates of today, which would be made again otherwise, for seconds
    table |= {"layers": layers, "shapes": {"dense": table["shapes"]["dense"]}, "code": code_digest()}
    return json.dumps({**data, "tables": [table]}).encode()


def _manifests() -> list[bytes]:
    candidates = (Candidate("block", {"rows": 4}, 0.1, 0.09, dense=True),)
    part = Part("block 4x1", 32, 9, "ab12", "block", {"rows": 4}, candidates, "why")
    size = Footprint(1, 2, 3)
    rows = (
        LayerPlan("fc1", "linear", "sparse", (8, 8, 1), 0.5, "bias", (part,), ("live 8",), layout=(0, 1), dead=(1,),
                  kept=((), (0, 1)), stored=(1, 8), piece=(1, 0, 8), covers=("fc1", "relu"), footprint=size),
        LayerPlan("softmax", "softmax", "operator", (1, 8), covers=("softmax",)),
    )  # fmt: skip
    plan = Plan(TARGET, 2, rows, {"dropped": "no output depends on it"}, {"node": "fc1"})
    infos = (TensorInfo("x", (1, 8), "float32"), TensorInfo("ids", (1,), "int64", (0, 9), ((0, 9),)))
    sizes = tuple(SizeInfo(f"main{i}", infos, infos[:1], plan, {"batch": i}) for i in (1, 2))
    padding = (Padding("batch", {"x": (0,)}, {"y": (0,)}),)
    library = {"format": "o", "name": "model", "arena": 64, "alignment": 64, "functions": ["model_run"]}
    versions = {"tesa": "0.1", "tvm": "0.27"}
    made: list[Manifest] = [
        Manifest(sizes[:1], versions, needs=("avx512f",), digest="ab12"),
        Manifest(sizes, versions, padding, library=library),
    ]
    return [json.dumps(manifest.to_json()).encode() for manifest in made]


def _npz(packed: bool = False) -> bytes:
    stream = io.BytesIO()
    save: Any = np.savez_compressed if packed else np.savez
    save(stream, x=np.arange(6, dtype=np.float32).reshape(2, 3), fc=np.eye(4, dtype=bool))
    return stream.getvalue()


def _wasm() -> bytes:
    import zlib

    body = b"\0asm\1\0\0\0" + b"\1\4\1\x60\0\0" + b"\3\2\1\0"
    name = SUM.encode()
    content = written(len(name)) + name
    return body + b"\0" + written(len(content) + 4) + content + zlib.crc32(body).to_bytes(4, "little")


def _library() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.so"
        words = [NATIVE.compiler(), "-x", "c", "-shared", "-fPIC", "-", "-o", str(path)]
        subprocess.run(words, input=f"int {SYMBOL}(void) {{ return 7; }}", text=True, check=True)
        return path.read_bytes()


def _journal() -> bytes:
    rows = [
        {"subject": SUBJECT, "key": f"k{i}", "config": {"fc": "fine:0.5"}, "error": 0.5, "score": 0.9, "seconds": 0.01}
        for i in range(3)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _listing() -> bytes:
    rows = [{"key": f"server:{key}", "addr": ["10.0.0.1", 9090 + i]} for i, key in enumerate("ab")]
    return json.dumps([0, {"server_info": rows, "queue_info": {"a": {"free": 1, "pending": 0}}}]).encode()
