"""A Target, what code is generated for, and the architectures that targets come from, each registered by a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tesa.schedules.gpus import Gpu
from tesa.schedules.types import Core
from tesa.targets import llvm
from tesa.targets.toolchain import NATIVE, Toolchain


@dataclass(frozen=True)
class Target:
    """A machine that code is generated for.

    name: as the user may write it again; tvm: the dictionary that TVM takes; arch: the name of its Architecture; cpu:
    LLVM's name of the CPU; features: LLVM features on top of it ("+avx512f", "-fma"), sorted; triple: LLVM's; kind: of
    machine, by which kernel families are registered; options: what TVM's dictionary holds beside; toolchain: what
    compiles C and links; runner: the name of what measures kernels where code runs here or on a device; runtime: TVM's
    runtime is there, and calls kernels by its own convention; else they are bare functions (schedules/cpu/bare.py);
    portable: the code is no machine's own. gpu: what kernels run on where kind is "gpu", None else; core is then that
    of a CPU that launches them.
    """

    name: str
    arch: str
    cpu: str
    core: Core
    features: tuple[str, ...] = ()
    triple: str = ""
    kind: str = "cpu"
    options: tuple[tuple[str, object], ...] = ()
    toolchain: Toolchain = NATIVE
    runner: str = "local"
    runtime: bool = True
    portable: bool = False
    gpu: Gpu | None = None

    @property
    def machine(self) -> Core | Gpu:
        """The machine that kernel families write code for."""
        return self.gpu or self.core

    @property
    def tvm(self) -> dict[str, object]:
        """The dictionary that tvm.target.Target takes. Holds nothing of the machine that compiles."""
        if self.gpu is not None:
            return dict(self.options)
        target: dict[str, object] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu, **dict(self.options)}
        if self.features:
            target["mattr"] = list(self.features)
        return target


@dataclass(frozen=True)
class Architecture:
    """CPUs of one instruction set, and the core that each of them has.

    name: how users write it; title: in words; aliases: other names of it, as in triples and as machines call
    themselves; triple: LLVM's; core(cpu, features): of a CPU, None where kernels do not run on it; needs: what such a
    CPU lacks, as the end of a sentence; example: a CPU that kernels run on; plain: the CPU that a triple alone means;
    bare: the CPU that the name alone means, "" for this machine's; elsewhere: the one that it then means on machines of
    another architecture, "" for none; named: CPU and features of further names that a user may give; portable: the code
    is no machine's own, and this machine has what runs it; general: CPUs to take where LLVM does not know this
    machine's, the best one first; features, options, toolchain, runner, runtime: those of each of its targets.
    instructions: how those of LLVM's features begin that stand for instructions, the others being hints about speed;
    linux: Linux's name of an instruction set by LLVM's; what is not in it, this machine has if its CPU has it. covered:
    a CPU whose instructions most of them have; elf: the number of its machine in a library's header, 0 for none;
    emulator: the command of what runs its programs on other machines, "" for none. baseline: options by which a C
    compiler makes code for the oldest CPU; probe: C that asks a CPU for features of LLVM, see tesa.targets.cpuid.probe,
    None where CPUs cannot be asked.
    """

    name: str
    title: str
    triple: str
    core: Callable[[str, frozenset[str]], Core | None]
    needs: str
    example: str
    aliases: tuple[str, ...] = ()
    plain: str = "generic"
    bare: str = ""
    elsewhere: str = ""
    named: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    portable: bool = False
    general: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    options: tuple[tuple[str, object], ...] = ()
    toolchain: Toolchain = NATIVE
    runner: str = "local"
    runtime: bool = True
    instructions: tuple[str, ...] = ("",)
    linux: Mapping[str, str] = field(default_factory=dict)
    baseline: tuple[str, ...] = ()
    covered: str = ""
    elf: int = 0
    emulator: str = ""
    probe: Callable[[Sequence[str]], str] | None = None

    def cpus(self) -> tuple[str, ...]:
        """The CPUs of LLVM that kernels run on."""
        every = {cpu: (cpu, ()) for cpu in llvm.cpus(self.triple)} | dict(self.named)
        return tuple(
            name
            for name, (cpu, extra) in every.items()
            if self.core(cpu, llvm.features(self.triple, cpu, (*self.features, *extra)))
        )

    def needed(self, cpu: str, extra: tuple[str, ...] = (), triple: str = "") -> frozenset[str]:
        """LLVM's features of a CPU that stand for instructions; extra: "+fma", "-avx2"."""
        every = llvm.features(triple or self.triple, cpu, extra)
        return frozenset(name for name in every if name.startswith(self.instructions))


_ARCHITECTURES: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Make an architecture known, in place of one that has its name."""
    _ARCHITECTURES[architecture.name] = architecture
    return architecture


def architectures() -> tuple[Architecture, ...]:
    """Every architecture that code can be made for."""
    return tuple(_ARCHITECTURES.values())


def find(name: str) -> Architecture | None:
    """The architecture that has this name or alias."""
    return next((one for one in architectures() if name.lower() in (one.name, *one.aliases)), None)
