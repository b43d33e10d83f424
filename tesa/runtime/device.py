"""The engine that runs a model on a device of a TVM RPC tracker."""

from collections.abc import Sequence
from typing import Any

from tesa.errors import ModelError
from tesa.measure.remote.model_session import DeviceModel
from tesa.measure.runners import check_device, tracker_address
from tesa.runtime.inputs import Array
from tesa.runtime.interfaces import Compiled
from tesa.runtime.pair import check_same
from tesa.targets.target import parse_target


class DeviceEngine:
    """An Engine (tesa.runtime.interfaces) on one device, which it holds until close().

    Raises UsageError where no device can be had, ModelError for a model that needs no runtime, and for a library that
    is of another compile than its description.
    """

    def __init__(self, compiled: Compiled) -> None:
        if compiled.manifest.library:
            raise ModelError(
                f"{compiled.path}: a device of a tracker runs models of format vm, and this is one of format "
                f"{compiled.manifest.library.get('format')}: compile it with --format vm"
            )
        target = parse_target(compiled.manifest.plan.target)
        address = tracker_address(compiled.rpc, compiled.key, target)
        assert address is not None
        assert compiled.key is not None
        self._key, self._sizes = compiled.key, compiled.manifest.sizes
        self._model = DeviceModel(
            *address, compiled.key, compiled.path, tools=target.toolchain, threads=compiled.threads
        )
        try:
            check_same(self._model.digest, compiled.path, compiled.manifest)
            check_device(self.device(), target, named=True)
        except BaseException:
            self.close()
            raise

    def run(self, function: str, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of one call, in their order."""
        size = next(size for size in self._sizes if size.function == function)
        return self._model.run(function, inputs, [(info.shape, info.dtype) for info in size.outputs])

    def time(self, function: str, inputs: Sequence[Array], rounds: int) -> list[float]:
        """Milliseconds of one call, by the device's clock, a sample for each round."""
        return self._model.time(function, inputs, rounds)

    def device(self) -> dict[str, Any]:
        """The device, as records name it."""
        return self._model.about.record(self._key)

    def close(self) -> None:
        """Give the device back."""
        self._model.close()
