"""The reasons why a candidate has no time: the kinds of failure, and which of them are the kernel's own."""

from dataclasses import dataclass
from enum import Enum


class FailureKind(str, Enum):
    """A kind of failure, by the word that logs have for it.

    >>> FailureKind.WRONG.blames_kernel, FailureKind.DEVICE.blames_kernel
    (True, False)
    """

    BUILD = "build"  # it cannot be generated, or does not compile
    LINK = "link"
    LOAD = "load"
    CALL = "call"  # it refuses its arguments
    WRONG = "wrong"  # another result than NumPy's
    CRASH = "crash"
    TIMEOUT = "timeout"
    DEVICE = "device"  # no device could run it
    MACHINE = "machine"  # the machine that builds cannot: no room on its disk, a module that is missing

    @property
    def blames_kernel(self) -> bool:
        """True where the failure is the kernel's own, and belongs into the log; False where another try may go well."""
        return self not in (FailureKind.LINK, FailureKind.LOAD, FailureKind.DEVICE, FailureKind.MACHINE)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Failure:
    """A candidate without a time, and why. code: where it cannot be built, the digest of what was emitted.

    >>> str(Failure(FailureKind.WRONG, "largest error 0.1"))
    'wrong: largest error 0.1'
    """

    kind: FailureKind
    message: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"
