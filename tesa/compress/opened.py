"""A model file opened to be changed in place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesa.compress.samples import Outputs, Samples
from tesa.compress.tensors import Tensors
from tesa.frontend.file import read_model
from tesa.frontend.given import file_size


@dataclass(frozen=True, eq=False)
class Work:
    """A model that is being changed. proto: what will be written; view: the same without functions of its own.

    tensors: its constants. source: its name in messages. external: it has data in other files.
    """

    proto: Any
    view: Any
    tensors: Tensors
    source: str
    external: bool

    def again(self) -> Work:
        """The same after nodes of it were moved: what was known of their places is looked for anew."""
        return Work(self.proto, self.proto, Tensors(self.proto, self.source), self.source, self.external)

    def outputs(self, samples: Samples, threads: int) -> Outputs:
        """The outputs of the model on calibration data."""
        return samples.run(self.proto, threads=threads, name=self.source)


def opened(model: str | Path | Any) -> Work:
    """Read a model; a ModelProto is copied."""
    source, proto = read_model(model)
    external = False
    if isinstance(model, str | Path):
        external = Path(model).stat().st_size + 1024 < file_size(proto)
    else:
        copy = type(proto)()
        copy.CopyFrom(proto)
        proto = copy
    view = proto
    if proto.functions:
        from onnx import inliner

        view = inliner.inline_local_functions(proto)
    return Work(proto, view, Tensors(proto, source), source, external)
