"""A compiled module that stands in the place of the one that it was made from."""

from __future__ import annotations

import contextlib
import io
import re
import weakref
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tesa.compact.saved import save
from tesa.compiler import compile_model
from tesa.errors import UsageError
from tesa.runtime import Model, load
from tesa.runtime.local import LocalModel
from tesa.runtime.tensors import BFLOAT16, numpy_dtype
from tesa.torch.export import arguments, exported
from tesa.torch.masks import plain_copy

_EVAL = "it computes in evaluation mode only: train the module that it was made from, and compile that again"


def compile(
    module: Any, example: Any, *, output: str | Path | None = None, dynamic_shapes: Any = None, **options: Any
) -> CompiledModule:
    """Compile a module of PyTorch into one that is called in its place.

    example: the inputs of a call: a tensor, a tuple of arguments, or a dict of keywords. output: where to write the
    library, with the ONNX file beside it; by default a folder that goes with the result. dynamic_shapes: as
    torch.onnx.export takes them, for options["shapes"]. options: those of tesa.compile, as target, threads, log.

    Masks of torch.nn.utils.prune and of the sparsifiers of torch.ao become exact zeros. The module stays as it is.
    Errors of tesa.torch.export and tesa.compile.

    >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    >>> fast = compile(net, torch.zeros(2, 8), measure=False)               # doctest: +SKIP
    >>> torch.allclose(fast(torch.ones(2, 8)), net(torch.ones(2, 8)))       # doctest: +SKIP
    True
    """
    proto = exported(module, example, dynamic_shapes)
    ports = [value.name for value in proto.graph.output]
    plain = plain_copy(module).eval()
    args, kwargs = arguments(example)
    with torch.no_grad():
        leaves, shape = pytree.tree_flatten(plain(*args, **kwargs))
    folder = None
    if output is None:
        folder = mkdtemp(prefix="tesa-torch-")
        output = Path(folder) / "model.so"
    path = Path(output)
    try:
        save(proto, path.with_suffix(".onnx"))
        compile_model(path.with_suffix(".onnx"), output=path, **options)
        model = load(path)
    except BaseException:
        if folder is not None:
            rmtree(folder, ignore_errors=True)
        raise
    made = CompiledModule(model, plain, leaves, shape, ports, [i.name for i in proto.graph.input])
    if folder is not None:
        weakref.finalize(made, rmtree, folder, ignore_errors=True)
    return made


class CompiledModule(nn.Module):  # type: ignore[misc]
    """A compiled module: called as the one that it was made from, with tensors whose memory is used as it is.

    model: the compiled model, with its plan. state_dict() is that of the module, without masks; load_state_dict takes
    the same numbers only, as others would need other kernels. It has no parameters to train, is always in evaluation
    mode, and stays on the CPU as float32. In a file (torch.save, pickle) it is kept whole.
    """

    def __init__(
        self, model: Model, plain: Any, leaves: list[Any], shape: Any, outputs: list[str], inputs: list[str]
    ) -> None:  # fmt: skip
        super().__init__()
        self.model = model
        object.__setattr__(self, "_plain", plain.requires_grad_(False))  # no child: its state is this module's own
        self._leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self._tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self._shape, self._names = shape, inputs
        if len(outputs) != len(self._tensors):
            raise UsageError(
                f"{type(plain).__name__} returns {len(self._tensors)} tensors, and its exported form {len(outputs)}: "
                "it cannot be called in its place; return each tensor once"
            )
        super().train(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The result for inputs of the shapes that it was compiled for. UsageError for others, and for gradients."""
        given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if kwargs:
            given = self._ordered(args, kwargs)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
            raise UsageError(f"no gradient goes through a compiled module: {_EVAL}; or call it under torch.no_grad()")
        if len(given) != len(self._names):
            raise UsageError(f"expected {len(self._names)} tensors, {', '.join(self._names)}; got {len(given)}")
        prepared = self.model.prepare(dict(zip(self._names, map(_array, given), strict=True)))
        result = self.model.execute(prepared)
        leaves = list(self._leaves)
        for place, tensor in zip(self._tensors, self._outputs(result, prepared), strict=True):
            leaves[place] = tensor
        return pytree.tree_unflatten(leaves, self._shape)

    def _ordered(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """Tensors in the order of the inputs: keywords may come in any."""
        named = {key: value for key, value in kwargs.items() if isinstance(value, torch.Tensor)}
        if len(named) == len(kwargs) and set(named) <= set(self._names):
            first = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, torch.Tensor)]
            rest = [name for name in self._names[len(first) :] if name in named]
            return [*first, *(named[name] for name in rest)]
        return [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]

    def _outputs(self, result: Any, prepared: Any) -> list[Any]:
        if not isinstance(self.model, LocalModel) or prepared.lengths:
            return [torch.from_numpy(array) for array in self.model.collect(result, prepared).values()]
        return [torch.from_dlpack(item) for item in ([result] if hasattr(result, "shape") else result)]

    def train(self, mode: bool = True) -> CompiledModule:
        """Raise UsageError for the training mode; eval() does nothing."""
        if mode:
            raise UsageError(f"a compiled module cannot be trained: {_EVAL}")
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state of the module that it was made from, with zeros where that was pruned."""
        return self._plain.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Accept the state that it was compiled with; UsageError for any other."""
        own = self._plain.state_dict()
        other = [key for key in own if key not in state_dict or not _same(own[key], state_dict[key])]
        other += [key for key in state_dict if key not in own]
        if other:
            raise UsageError(
                f"a compiled module has the weights that it was compiled with, and {other[0]!r} is another one here; "
                "load the state into the module that it was made from, and compile that again"
            )
        return nn.modules.module._IncompatibleKeys([], [])

    def _apply(self, fn: Any, recurse: bool = True) -> CompiledModule:
        probe = fn(torch.zeros(1))
        if probe.device.type != "cpu" or probe.dtype != torch.float32:
            raise UsageError(
                f"a compiled module runs on the CPU as it was compiled, it cannot become {probe.dtype} on "
                f"{probe.device}; convert the module that it was made from, and compile that again"
            )
        return self

    def __reduce__(self) -> Any:
        names = [self.model.path.with_suffix(suffix) for suffix in (".so", ".json")]
        files = {name.suffix: name.read_bytes() for name in names}
        buffer = io.BytesIO()
        torch.save(self._plain, buffer)
        return _restored, (files, self.model.threads, buffer.getvalue(), self._leaves, self._tensors, self._shape,
                           self._names)  # fmt: skip

    def extra_repr(self) -> str:
        """The library and its inputs."""
        return re.sub(r"^Model\((.*)\)$", r"\1", repr(self.model))


def _restored(
    files: Mapping[str, bytes], threads: int, plain: bytes, leaves: list[Any], tensors: list[int], shape: Any,
    names: list[str],
) -> CompiledModule:  # fmt: skip
    folder = mkdtemp(prefix="tesa-torch-")
    for suffix, data in files.items():
        (Path(folder) / f"model{suffix}").write_bytes(data)
    filled = [torch.empty(0) if i in tensors else leaf for i, leaf in enumerate(leaves)]
    model = load(Path(folder) / "model.so", threads)
    module = torch.load(io.BytesIO(plain), weights_only=False)
    made = CompiledModule(model, module, filled, shape, [""] * len(tensors), names)
    weakref.finalize(made, rmtree, folder, ignore_errors=True)
    return made


def _array(tensor: Any) -> Any:
    """A tensor's own memory as an array."""
    if tensor.device.type != "cpu":
        raise UsageError(f"an input is on {tensor.device}; a compiled module takes tensors of the CPU: .to('cpu')")
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(numpy_dtype(BFLOAT16))
    with contextlib.suppress(RuntimeError):  # conjugated or negated lazily
        return tensor.numpy()
    return tensor.resolve_conj().resolve_neg().numpy()


def _same(one: Any, other: Any) -> bool:
    return isinstance(other, torch.Tensor) and one.shape == other.shape and bool(torch.equal(one, other.to(one.dtype)))
