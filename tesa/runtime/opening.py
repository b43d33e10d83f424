"""Loads a compiled model, where it can run: in this process, on a device of a tracker, in Node.js."""

from pathlib import Path

from tesa.base.hostinfo import usable_cpus
from tesa.base.keywords import helpful
from tesa.base.numbers import whole
from tesa.errors import ModelError, UsageError
from tesa.runtime.bare import BareModel
from tesa.runtime.engines import engine_for
from tesa.runtime.interfaces import Compiled
from tesa.runtime.local import LocalModel
from tesa.runtime.manifest import read_manifest
from tesa.runtime.model import Model
from tesa.runtime.remote import RemoteModel


@helpful("tesa.load")
def load(
    path: str | Path, threads: int | None = None, *, rpc: str | None = None, key: str | None = None,
    emulated: bool = False,
) -> Model:  # fmt: skip
    """Load a compiled model and its description, `model.json` beside `model.so`.

    threads: how many the kernels run on, at most what the model was compiled for, which is the default. rpc: HOST:PORT
    of a TVM RPC tracker and key: of its devices, one of which then runs the model; every call goes there and back, and
    `close` gives the device back. A model for WebAssembly runs in Node.js. emulated: a model for another architecture
    that needs no runtime, of format "o", runs in an emulator, which is slow, and times nothing.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        library = path.with_suffix(".so")
        raise ModelError(f"{path}: is no compiled model; compile it first: `tesa compile {path} -o {library}`")
    manifest = read_manifest(path.with_suffix(".json")) if path.is_file() else None
    if manifest is None:
        raise ModelError(f"{path}: no such file; compile a model with `tesa compile model.onnx -o {path}`")
    compiled = manifest.plan.threads
    if threads is not None and whole("threads", threads) > compiled:
        raise UsageError(f"{path}: was compiled for {compiled} thread(s), got threads={threads}; compile it again")
    model = Compiled(path, manifest, threads or compiled, rpc, key, emulated)
    engine = engine_for(model)
    if engine is not None:
        return RemoteModel(model, engine)
    if manifest.library:
        return BareModel(path, manifest, min(threads or compiled, usable_cpus()))
    return LocalModel(path, manifest, min(threads or compiled, usable_cpus()))
