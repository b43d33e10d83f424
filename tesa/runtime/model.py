"""A compiled model: look at its inputs and outputs, call it. It runs in this process (local.py) or not (remote.py)."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tesa.choose.plan import Plan
from tesa.runtime.inputs import Array, by_name, checked
from tesa.runtime.manifest import Manifest, SizeInfo, TensorInfo
from tesa.runtime.sizes import Fit, cut, filled, fitting

_Own = TypeVar("_Own", bound="Model")


class Prepared(list[Any]):
    """Checked and wrapped inputs of a call. size: of the model that they run on; lengths: see Fit."""

    def __init__(self, tensors: Sequence[Any], fit: Fit) -> None:
        super().__init__(tensors)
        self.size, self.lengths = fit.size, fit.lengths


class Model:
    """A compiled model that can be called. Calls are checked for names, shapes and dtypes.

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

    def at(self: _Own, size: SizeInfo) -> _Own:
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
        return Prepared([self._wrapped(checked(arrays[info.name], info)) for info in infos], fit)

    def execute(self, prepared: Sequence[Any]) -> Any:
        """Run on prepared inputs: the bare call, as an application makes it."""
        raise NotImplementedError

    def collect(self, result: Any, prepared: Prepared | None = None) -> dict[str, Array]:
        """The result of execute as arrays by output name. They own their memory.

        prepared: the inputs; where these were filled up, the outputs are cut as they are with it.
        """
        results = [result] if hasattr(result, "shape") else list(result)
        arrays = {info.name: self._unwrapped(item) for info, item in zip(self.outputs, results, strict=True)}
        if prepared is None or not prepared.lengths:
            return arrays
        padding = self.manifest.padding
        return {name: cut(array, name, padding, prepared.lengths) for name, array in arrays.items()}

    def _wrapped(self, array: Array) -> Any:
        """An input as execute takes it."""
        raise NotImplementedError

    def _unwrapped(self, result: Any) -> Array:
        """An output of execute as an array."""
        raise NotImplementedError

    def _size_of(self, prepared: Sequence[Any]) -> SizeInfo:
        return prepared.size if isinstance(prepared, Prepared) else self.sizes[0]

    def _fit(self, arrays: Mapping[str, Any]) -> Fit:
        """The size for some arrays. The only one is taken as it is: what does not fit is told of input by input."""
        padding = self.manifest.padding
        if len(self.sizes) == 1 and not padding:
            return Fit(self.sizes[0], {})
        shapes = {info.name: np.shape(arrays[info.name]) for info in self.inputs}
        return fitting(self.sizes, padding, shapes)
