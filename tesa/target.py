"""Names of targets: a short name such as `x86` or `x86:cascadelake`, or TVM's own JSON or classic string."""

from __future__ import annotations

from dataclasses import dataclass

from tesa.schedules.types import Isa


@dataclass(frozen=True)
class Target:
    """What code is generated for. name is how the user may write it again; tvm is TVM's dict as sorted pairs."""

    name: str
    arch: str
    cpu: str
    isa: Isa
    features: tuple[str, ...] = ()

    @property
    def tvm(self) -> dict[str, object]:
        """The dictionary that tvm.target.Target takes. Holds nothing of the machine that compiles."""
        target: dict[str, object] = {"kind": "llvm", "mcpu": self.cpu}
        if self.features:
            target["mattr"] = list(self.features)
        return target
