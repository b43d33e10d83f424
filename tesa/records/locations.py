"""The folders in which measurements are kept when the user names none."""

from pathlib import Path

import platformdirs

import tesa.tuning_logs
from tesa.records.log import Log
from tesa.targets.target import host_cpu


def shipped() -> Path:
    """The folder of records that come with tesa."""
    return Path(next(iter(tesa.tuning_logs.__path__)))


def user() -> Path:
    """The user's own folder. Need not exist."""
    return Path(platformdirs.user_data_dir("tesa", appauthor=False)) / "tuning_logs"


def open_log(folder: str | Path | None, cpu: str | None = None) -> Log:
    """The log of a folder, which alone is read and added to; without one the user's, on top of what is shipped.

    cpu: of the device that is going to measure, whose file is written; by default this machine's. A folder that cannot
    be used is a UsageError; where nobody named it, it is a warning, and nothing is remembered.
    """
    device = host_cpu() if cpu is None else cpu
    if folder is not None:
        return Log.load(folder, device=device)
    # The first place is written to, and of two records of one configuration the later one counts.
    return Log.load(user(), shipped(), user(), device=device, optional=True)
