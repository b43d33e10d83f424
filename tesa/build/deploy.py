"""Writes a compiled model: the library that an application loads, and its description."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tesa.base.files import atomic_path, write_json
from tesa.base.scratch import Scratch
from tesa.build.interface import baseline
from tesa.targets.target import Target


def write(
    executable: Any,
    objects: Sequence[Path],
    interface: str,
    description: Mapping[str, Any],
    path: Path,
    target: Target,
) -> None:
    """Link the virtual machine's code and the kernels' objects into a library, and write its description as NAME.json.

    Both appear whole or not at all. objects may name a file more than once. interface: C that answers for the library.
    Raises UsageError as the toolchain does.
    """
    with atomic_path(path) as library, Scratch() as folder:
        answers = Path(folder) / "interface.o"
        target.toolchain.compile(interface, answers, baseline(target))
        target.toolchain.export(executable, [*dict.fromkeys(objects), answers], library)
        write_json(path.with_suffix(".json"), description)
