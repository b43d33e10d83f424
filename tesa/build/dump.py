"""Modules between the phases of a compile, as text."""

from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tesa.base.files import write_text
from tesa.errors import UsageError


class Dump:
    """Writes modules as text into a folder, if there is one."""

    def __init__(self, folder: Path | None) -> None:
        """Make the folder and try it out. UsageError, before any work, if nothing can be written there."""
        self.folder = folder
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder) as file:
                file.write(b"0")
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"cannot dump into {folder}: a file is in the way; give another folder") from error
        except OSError as error:
            raise UsageError(f"cannot dump into {folder}: {error.strerror or error}; give another folder") from error

    def module(self, name: str, mod: Any) -> None:
        """Write a module as NAME.py, whole or not at all. Weights are left out. UsageError as write_text."""
        if self.folder is not None:
            write_text(self.folder / f"{name}.py", mod.script(show_meta=False))
