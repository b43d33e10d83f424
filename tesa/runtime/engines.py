"""The engines by name, and the choice of one for a compiled model."""

from importlib import import_module

from tesa.runtime.interfaces import Compiled, Engine

_ENGINES = {
    "rpc": "tesa.runtime.device:DeviceEngine",
    "node": "tesa.runtime.node:NodeEngine",
    "emulated": "tesa.runtime.emulated:EmulatedEngine",
    "gpu": "tesa.runtime.gpu_engine:GpuEngine",
}
"""Module and class, which is called with a Compiled. Imported when it is needed: loading a model here is quick."""

_BY_SUFFIX = {".wasm": "node"}
"""The engine of files that no process loads as they are."""


def engine_for(compiled: Compiled) -> Engine | None:
    """The engine that runs a compiled model; None where this process does.

    That of a user's tracker or the emulator that was asked for, else that of the file.
    """
    name = _BY_SUFFIX.get(compiled.path.suffix, "")
    if compiled.manifest.library.get("format") == "gpu":
        return make("gpu", compiled)
    if compiled.rpc is not None or compiled.key is not None:
        name = "rpc"
    elif compiled.emulated:
        name = "emulated"
    return make(name, compiled) if name else None


def make(name: str, compiled: Compiled) -> Engine:
    """The engine of that name."""
    module, _, maker = _ENGINES[name].partition(":")
    engine: Engine = getattr(import_module(module), maker)(compiled)
    return engine
