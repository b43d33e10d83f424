"""A compiled model: load it, look at its inputs and outputs, call it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tesa.base.hostinfo import usable_cpus
from tesa.base.keywords import helpful
from tesa.base.numbers import whole
from tesa.choose.plan import Plan
from tesa.errors import ModelError, UsageError
from tesa.runtime.callers import call_with_threads
from tesa.runtime.cpu import check_cpu
from tesa.runtime.inputs import Array, by_name, checked
from tesa.runtime.library import load_library, set_threads
from tesa.runtime.machines import Machines
from tesa.runtime.manifest import Manifest, SizeInfo, TensorInfo, read_manifest
from tesa.runtime.pair import check_digest
from tesa.runtime.sizes import Fit, cut, filled, fitting
from tesa.runtime.tensors import from_numpy, to_numpy


class Prepared(list[Any]):
    """Checked and wrapped inputs of a call. size: of the model that they run on; lengths: see Fit."""

    def __init__(self, tensors: Sequence[Any], fit: Fit) -> None:
        super().__init__(tensors)
        self.size, self.lengths = fit.size, fit.lengths


class Model:
    """A compiled model in this process, for any number of threads. Calls are checked for names, shapes and dtypes.

    A model of several sizes takes inputs of each of them; inputs, outputs and plan are those of the first one, and
    `at` is the model at one of them.

    >>> import tesa.models, tesa.runtime                                    # doctest: +SKIP
    >>> model = tesa.runtime.load("digits.so")                              # doctest: +SKIP
    >>> model({"image": tesa.models.digits_images()[:1]})["logits"].shape   # doctest: +SKIP
    (1, 10)
    """

    def __init__(self, path: Path, manifest: Manifest, threads: int = 1) -> None:
        self.path = path
        self.manifest = manifest
        self.threads = threads
        self.sizes = manifest.sizes
        self.library = load_library(path)
        check_cpu(self.library, path, manifest.plan.target)
        check_digest(self.library, path, manifest)
        self._machines = Machines(self.library, path)

    def __repr__(self) -> str:
        ports = ", ".join(f"{i.name} {i.dtype}{list(i.shape)}" for i in self.inputs)
        if len(self.sizes) > 1:
            ports = f"{len(self.sizes)} sizes: {'; '.join(map(str, self.sizes))}"
        return f"Model({self.path}: {ports}; {self.plan.target}, {self.plan.threads} thread(s))"

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs of a call, in order."""
        return self.sizes[0].inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs of a call, in order."""
        return self.sizes[0].outputs

    @property
    def plan(self) -> Plan:
        """The compiler's decisions."""
        return self.sizes[0].plan

    def at(self, size: SizeInfo) -> "Model":
        """The same model at one of its sizes alone."""
        one = copy.copy(self)
        one.sizes = (size,)
        return one

    def __call__(self, feeds: Mapping[str, Array] | Sequence[Array] | Array) -> dict[str, Array]:
        """Run the model on arrays by input name, in the order of inputs, or on the one array of the one input.

        Returns an array for each output name. UsageError for a missing or unknown name, a wrong shape or dtype.
        """
        prepared = self.prepare(feeds)
        return self.collect(self.execute(prepared), prepared)

    def prepare(self, feeds: Mapping[str, Array] | Sequence[Array] | Array) -> Prepared:
        """Check the inputs and wrap them for execute; an array is copied only if it is strided, misaligned or short."""
        arrays = by_name(feeds, self.inputs)
        fit = self._fit(arrays)
        infos = fit.size.inputs
        if fit.lengths:
            arrays = {info.name: filled(np.asarray(arrays[info.name]), info.shape) for info in infos}
        return Prepared([from_numpy(checked(arrays[info.name], info)) for info in infos], fit)

    def execute(self, prepared: Sequence[Any]) -> Any:
        """Run on prepared inputs: the bare call, as an application makes it."""
        size = prepared.size if isinstance(prepared, Prepared) else self.sizes[0]
        if self.plan.threads == 1:
            return self._machines.run(size.function, prepared)
        return call_with_threads(self.threads, self._machines.run, size.function, prepared)

    def collect(self, result: Any, prepared: Prepared | None = None) -> dict[str, Array]:
        """The result of execute as arrays by output name. They own their memory.

        prepared: the inputs; where these were filled up, the outputs are cut as they are with it.
        """
        results = [result] if hasattr(result, "shape") else list(result)
        arrays = {info.name: to_numpy(tensor) for info, tensor in zip(self.outputs, results, strict=True)}
        if prepared is None or not prepared.lengths:
            return arrays
        padding = self.manifest.padding
        return {name: cut(array, name, padding, prepared.lengths) for name, array in arrays.items()}

    def watched(self, note: Callable[..., None]) -> Callable[..., Any]:
        """A function of prepared inputs like execute, which calls note(function, symbol, before, result, *args) around
        every call that the model makes. Of several sizes it is the first one's."""
        if self.plan.threads > 1:
            set_threads(self.threads)
        return self._machines.watched(self.sizes[0].function, note)

    def _fit(self, arrays: Mapping[str, Any]) -> Fit:
        """The size for some arrays. The only one is taken as it is: what does not fit is told of input by input."""
        padding = self.manifest.padding
        if len(self.sizes) == 1 and not padding:
            return Fit(self.sizes[0], {})
        shapes = {info.name: np.shape(arrays[info.name]) for info in self.inputs}
        return fitting(self.sizes, padding, shapes)


@helpful("tesa.load")
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
    if threads is not None and whole("threads", threads) > compiled:
        raise UsageError(f"{path}: was compiled for {compiled} thread(s), got threads={threads}; compile it again")
    return Model(path, manifest, min(threads or compiled, usable_cpus()))
