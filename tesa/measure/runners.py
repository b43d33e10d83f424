"""The runners by name, the choice of one for a target, and the check that its devices fit the target."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from tesa.base.hostinfo import architecture, read_cpu
from tesa.errors import UsageError
from tesa.measure import remote
from tesa.measure.emulated.emulator import lacking_emulator
from tesa.measure.emulated.runner import EmulatedRunner
from tesa.measure.gpu import driver as gpu_driver
from tesa.measure.gpu.runner import GpuRunner
from tesa.measure.interfaces import Runner
from tesa.measure.local import LocalRunner
from tesa.measure.node.runner import NodeRunner
from tesa.measure.remote.address import split_address
from tesa.targets import llvm
from tesa.targets.host import host_architecture
from tesa.targets.target import Target, host_cpu, runs_here

Make = Callable[..., Runner]
"""Makes a runner from a target and the arguments of runner_for that are given."""

Tell = Callable[[str], None]
"""Gets a sentence that a user should read now."""

Lacks = Callable[[Target], str]
"""Says what this machine lacks to measure code for a target, as a sentence; "" for nothing."""

_RUNNERS: dict[str, tuple[Make, Lacks]] = {}


def register(name: str, lacks: Lacks) -> Callable[[Make], Make]:
    """Register the function that makes the runner of that name, and what tells whether it can be had."""

    def add(make: Make) -> Make:
        _RUNNERS[name] = make, lacks
        return make

    return add


def _no_cpu(target: Target) -> str:
    return "" if runs_here(target) else f"this machine cannot run code for {target.name}"


def _no_node(target: Target) -> str:
    try:
        NodeRunner(target)
    except UsageError as error:
        return str(error)
    return ""


@register("local", _no_cpu)
def _local(_: Target, *, alone: AbstractContextManager[Any] | None, **__: object) -> Runner:
    return LocalRunner(alone=alone)


@register("node", _no_node)
def _node(target: Target, *, alone: AbstractContextManager[Any] | None, **__: object) -> Runner:
    return NodeRunner(target, alone=alone)


@register("gpu", gpu_driver.missing)
def _gpu(target: Target, *, alone: AbstractContextManager[Any] | None, **__: object) -> Runner:
    return GpuRunner(target, alone=alone)


@register("rpc", lambda _: "")
def _rpc(
    target: Target, *, address: tuple[str, int], key: str, compiler: str | None, tell: Tell, **_: object
) -> Runner:
    return remote.RpcRunner(*address, key, compiler=compiler, toolchain=target.toolchain, tell=tell)


def runner_for(
    target: Target,
    *,
    address: tuple[str, int] | None = None,
    key: str | None = None,
    compiler: str | None = None,
    alone: AbstractContextManager[Any] | None = None,
    tell: Tell = lambda text: None,
) -> Runner:
    """The runner that measures code for the target: on this machine, or on devices. The caller closes it.

    address: host and port of a TVM RPC tracker; key: of its devices; compiler: the C compiler that links code for them,
    by default this machine's. alone: held while this machine measures. tell: gets a sentence about each device that
    dies, is set aside or comes back, when that happens.
    """
    name = target.runner if address is None else "rpc"
    return _RUNNERS[name][0](target, address=address, key=key, compiler=compiler, alone=alone, tell=tell)


def lacking(target: Target) -> str:
    """The lack that keeps this machine from measuring code for the target, as a sentence; "" where it can.

    >>> from tesa.targets.target import parse_target
    >>> lacking(parse_target("aarch64:cortex-a76" if runs_here(parse_target("x86:nehalem")) else "x86:nehalem"))[:24]
    'this machine cannot run '
    """
    return _RUNNERS[target.runner][1](target)


def checker_for(target: Target) -> Runner | None:
    """The runner that compares code for a CPU of another architecture with NumPy, in an emulator; None without one.

    It times nothing. The instruction sets that this machine's own architecture has and its CPU lacks are no matter of
    an emulator: those that there are lack them as well.
    """
    here = host_architecture()
    if (here is not None and here.name == target.arch) or lacking_emulator(target):
        return None
    return EmulatedRunner(target)


def tracker_address(rpc: str | None, key: str | None, target: Target, measures: bool = True) -> tuple[str, int] | None:
    """Host and port of the tracker that a user named; None for this machine.

    Raises UsageError for half an address, and where something is to be measured and neither can run the target's code.
    """
    if rpc is None:
        if key is not None:
            raise UsageError("a key names devices of a tracker: give its address with --rpc HOST:PORT as well")
        if measures and (why := lacking(target)):
            if target.runner != "local":
                raise UsageError(why)
            raise UsageError(
                f"{why}, so that nothing can be measured: give the tracker of devices that can with --rpc HOST:PORT "
                "--key KEY (rpc= and key= in Python)"
            )
        return None
    if target.runner != "local":
        raise UsageError(f"{target.name} is measured on this machine: leave --rpc and --key (rpc= and key=) out")
    if key is None:
        raise UsageError(f"the tracker {rpc} may have devices of several kinds: name one with --key KEY")
    try:
        return split_address(rpc)
    except ValueError as error:
        raise UsageError(
            f"{rpc!r} is no address of a tracker; expected HOST:PORT, as in 127.0.0.1:9190 or [::1]:9190"
        ) from error


def check_device(device: Mapping[str, Any], target: Target, *, named: bool) -> str:
    """A note where the device that measures has another CPU than the target is for; "" where it fits.

    device: of a Runner. named: True where the user named the target's CPU, False where it is this machine's because
    nothing was said. Raises UsageError for a device of another architecture, and, where nothing was said, for one with
    another CPU: kernels for this machine would fail there one after the other, or be measured on what nobody asked for;
    for a GPU that is older than the target's architecture, or of another one where code runs on its own alone.
    """
    if target.gpu is not None:
        return _check_gpu(device, target)
    found, wanted = str(device.get("system", "")).rpartition(" ")[2], target.triple.partition("-")[0]
    if found and architecture(found) != architecture(wanted):
        raise UsageError(
            f"the device that measures is {found} ({device['cpu']}), and the target {target.name} is {wanted}: its "
            "code cannot run there; give the target of the device, or the key of other devices"
        )
    cpu = str(device["cpu"])
    if target.portable:
        return ""
    if device.get("emulated"):
        return f"{cpu} measures: its times are the emulator's ({device.get('model', '')}), and count for no CPU"
    if cpu == target.cpu or (not named and cpu == host_cpu()):
        return ""
    if named:
        return f"the target is {target.name}, and the device that measures is {cpu}: the times are of the latter"
    if cpu not in llvm.cpus(target.triple):  # a device without LLVM gives the name that Linux has for it
        if str(device.get("model")) == read_cpu().model:
            return ""
        cpu = "CPU"
    raise UsageError(
        f"the device's CPU is {device['cpu']}, and this machine's, which kernels are for if no target is given, is "
        f"{target.cpu}: give --target {target.arch}:{cpu} (target= in Python); see `tesa list targets`"
    )


def _check_gpu(device: Mapping[str, Any], target: Target) -> str:
    """A note where a GPU is newer than the target; UsageError for one that cannot run code for it."""
    assert target.gpu is not None
    has, wanted = str(device.get("architecture", "")), target.gpu.name
    if has in ("", wanted):
        return ""
    numbers = [int(name.rpartition("_")[2]) for name in (has, wanted) if name.rpartition("_")[2].isdigit()]
    if len(numbers) < 2 or numbers[0] < numbers[1]:
        raise UsageError(
            f"the GPU that measures is {device['cpu']}, {has}, which cannot run code for {target.name}: give --target "
            f"{target.arch}:{has} (target= in Python), or an older one; see `tesa list targets`"
        )
    return f"the target is {target.name}, and the GPU that measures is {device['cpu']}, {has}: it runs older code"
