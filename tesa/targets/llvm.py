"""LLVM's knowledge of CPUs: their names, their features, and this machine's name."""

from functools import cache
from typing import Any


@cache
def host_cpu() -> str:
    """LLVM's name of this machine's CPU, such as "znver4"; "generic" where LLVM does not know it."""
    from tvm.target import codegen

    return str(codegen.llvm_get_system_cpu())


@cache
def cpus(triple: str) -> tuple[str, ...]:
    """The names of all CPUs that LLVM knows."""
    from tvm.target import Target as TvmTarget
    from tvm.target import codegen

    return tuple(str(cpu) for cpu in codegen.llvm_get_cpu_archlist(TvmTarget({"kind": "llvm", "mtriple": triple})))


@cache
def features(triple: str, cpu: str, extra: tuple[str, ...] = ()) -> frozenset[str]:
    """LLVM's features of a CPU, with those of extra ("+fma", "-avx2") and all that follows from them switched."""
    from tvm.target import Target as TvmTarget
    from tvm.target import codegen

    data: dict[str, Any] = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    target = TvmTarget(data | {"mattr": list(extra)} if extra else data)
    return frozenset(str(feature) for feature in codegen.llvm_get_cpu_features(target))


@cache
def known_features(triple: str) -> frozenset[str]:
    """Every feature that some CPU of LLVM has. To ask LLVM for another one prints a line on standard error."""
    return frozenset().union(*(features(triple, cpu) for cpu in cpus(triple)))
