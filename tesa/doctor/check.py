"""One finding about the machine or the installation."""

from dataclasses import dataclass

OK, FAILED, MISSING, INFO = "ok", "failed", "missing", "info"


@dataclass(frozen=True)
class Check:
    """One line of the report. status: ok, failed (tesa does not work), missing (something optional), info.

    hint says what to do about a failed or a missing one.
    """

    group: str
    name: str
    status: str
    found: str
    hint: str = ""
