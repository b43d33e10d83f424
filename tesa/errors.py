"""Every error a user can cause. Each says what was found, what was expected and what to do about it.

The command line turns the class into the exit code: 1 a check failed, 2 wrong use, 3 unsupported.
"""


class TesaError(Exception):
    """Base of all errors that tesa raises on purpose. exit_code is what the command line ends with."""

    exit_code = 2


class CheckFailed(TesaError):
    """A comparison did not hold: a verification, a self-test, a kernel against its reference."""

    exit_code = 1


class UsageError(TesaError):
    """The call cannot be carried out as written: a missing file, a wrong shape, an unknown name."""

    exit_code = 2


class ModelError(UsageError):
    """The model file itself is at fault: truncated, cyclic, not finite, of unknown size."""


class UnsupportedError(TesaError):
    """The call is sound, but tesa has no way to do it yet: a target, an operator, a type."""

    exit_code = 3
