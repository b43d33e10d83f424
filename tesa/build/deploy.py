"""Writes a compiled model: the library that an application loads, and its description."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tesa.base.files import atomic_path, write_json
from tesa.targets.toolchain import Toolchain


def write(
    executable: Any, objects: Sequence[Path], description: Mapping[str, Any], path: Path, toolchain: Toolchain
) -> None:
    """Link the virtual machine's code and the kernels' objects into a library, and write its description as NAME.json.

    Both appear whole or not at all. objects may name a file more than once. Raises UsageError as the toolchain does.
    """
    with atomic_path(path) as library:
        toolchain.export(executable, list(dict.fromkeys(objects)), library)
        write_json(path.with_suffix(".json"), description)
