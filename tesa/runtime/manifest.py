"""model.json, the description that lies beside every compiled model: written by the compiler, read by `load`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesa.choose.plan import Plan
from tesa.errors import ModelError

FORMAT = 1
"""Version of model.json; a reader refuses what is newer."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, shape and NumPy dtype name of an input or output.

    limits: of an input that is an index, the least and the largest number that the model's tables have a row for.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    limits: tuple[int, int] | None = None


@dataclass(frozen=True)
class Manifest:
    """The content of model.json, which lies beside model.so: its inputs and outputs, and the plan it was made by."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    plan: Plan
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, ready for json.dump."""
        return {
            "format": FORMAT,
            "inputs": [_row(info) for info in self.inputs],
            "outputs": [_row(info) for info in self.outputs],
            "versions": dict(self.versions),
            "plan": self.plan.to_json(),
        }


def read_manifest(path: Path) -> Manifest:
    """Read model.json. ModelError where it is missing, broken or of a newer format."""
    try:
        data = json.loads(path.read_text())
        if "tesa_kernel" in data:
            library = path.with_suffix(".so")
            raise ModelError(
                f"{library}: is a single kernel, not a model; call it: "
                f'tvm_ffi.load_module("{library}")["entry"](*arrays, y), {path} says which'
            )
        if data["format"] > FORMAT:
            raise ModelError(f"{path}: format {data['format']} is newer than this tesa reads ({FORMAT}); update tesa")
        inputs, outputs = (_infos(data[side]) for side in ("inputs", "outputs"))
        return Manifest(inputs, outputs, Plan.from_json(data["plan"]), data["versions"])
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); it is written beside the library") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is not the description of a compiled model ({error})") from error


def _row(info: TensorInfo) -> dict[str, Any]:
    return {key: value for key, value in vars(info).items() if value is not None}


def _infos(rows: Any) -> tuple[TensorInfo, ...]:
    return tuple(_info(row["name"], tuple(row["shape"]), row["dtype"], row.get("limits")) for row in rows)


def _info(name: str, shape: tuple[int, ...], dtype: str, limits: Any) -> TensorInfo:
    return TensorInfo(name, shape, dtype, None if limits is None else (int(limits[0]), int(limits[1])))
