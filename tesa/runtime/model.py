"""A compiled model: load it, look at its inputs and outputs, call it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tesa.base.hostinfo import usable_cpus
from tesa.choose.plan import Plan
from tesa.errors import ModelError, UsageError
from tesa.runtime.inputs import Array, by_name, checked
from tesa.runtime.library import load_library, set_threads
from tesa.runtime.machines import Machines
from tesa.runtime.manifest import Manifest, TensorInfo, read_manifest
from tesa.runtime.tensors import from_numpy, to_numpy


class Model:
    """A compiled model in this process, for any number of threads. Calls are checked for names, shapes and dtypes.

    >>> import tesa.models, tesa.runtime                                    # doctest: +SKIP
    >>> model = tesa.runtime.load("digits.so")                              # doctest: +SKIP
    >>> model({"image": tesa.models.digits_images()[:1]})["logits"].shape   # doctest: +SKIP
    (1, 10)
    """

    def __init__(self, path: Path, manifest: Manifest, threads: int = 1) -> None:
        self.path = path
        self.manifest = manifest
        self.threads = threads
        self.library = load_library(path)
        self._machines = Machines(self.library, path)

    def __repr__(self) -> str:
        ports = ", ".join(f"{i.name} {i.dtype}{list(i.shape)}" for i in self.inputs)
        return f"Model({self.path}: {ports}; {self.plan.target}, {self.plan.threads} thread(s))"

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs of a call, in order."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs of a call, in order."""
        return self.manifest.outputs

    @property
    def plan(self) -> Plan:
        """The compiler's decisions."""
        return self.manifest.plan

    def __call__(self, feeds: Mapping[str, Array] | Sequence[Array] | Array) -> dict[str, Array]:
        """Run the model on arrays by input name, in the order of inputs, or on the one array of the one input.

        Returns an array for each output name. UsageError for a missing or unknown name, a wrong shape or dtype.
        """
        return self.collect(self.execute(self.prepare(feeds)))

    def prepare(self, feeds: Mapping[str, Array] | Sequence[Array] | Array) -> list[Any]:
        """Check the inputs and wrap them for execute; an array is copied only if it is strided or misaligned."""
        arrays = by_name(feeds, self.inputs)
        return [from_numpy(checked(arrays[info.name], info)) for info in self.inputs]

    def execute(self, prepared: Sequence[Any]) -> Any:
        """Run on prepared inputs: the bare call, as an application makes it."""
        self._use_threads()
        return self._machines.run("main", prepared)

    def collect(self, result: Any) -> dict[str, Array]:
        """The result of execute as arrays by output name. They own their memory."""
        results = [result] if hasattr(result, "shape") else list(result)
        return {info.name: to_numpy(tensor) for info, tensor in zip(self.outputs, results, strict=True)}

    def watched(self, note: Callable[..., None]) -> Callable[..., Any]:
        """A function of prepared inputs like execute, which calls note(function, symbol, before, result, *args) around
        every call that the model makes."""
        self._use_threads()
        return self._machines.watched("main", note)

    def _use_threads(self) -> None:
        if self.plan.threads > 1:
            set_threads(self.threads)


def load(path: str | Path, threads: int | None = None) -> Model:
    """Load a compiled model and its description, `model.json` beside `model.so`.

    threads: how many the kernels run on, at most what the model was compiled for, which is the default.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        library = path.with_suffix(".so")
        raise ModelError(f"{path}: is no compiled model; compile it first: `tesa compile {path} -o {library}`")
    manifest = read_manifest(path.with_suffix(".json")) if path.is_file() else None
    if manifest is None:
        raise ModelError(f"{path}: no such file; compile a model with `tesa compile model.onnx -o {path}`")
    compiled = manifest.plan.threads
    if threads is not None and not 1 <= threads <= compiled:
        raise UsageError(f"{path}: was compiled for {compiled} thread(s), got threads={threads}; compile it again")
    return Model(path, manifest, min(threads or compiled, usable_cpus()))
