"""Masks of a module's weights: read from how it was pruned, imposed by a pattern, and kept while it is trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from tesa.attributes.impose import Imposed, kept
from tesa.errors import UsageError
from tesa.frontend.names import did_you_mean

WEIGHTS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
)  # fmt: skip
"""The modules whose weight a pattern can be imposed on."""


def pruned_parameters(module: Any) -> Iterator[tuple[Any, str, str, Any]]:
    """The parameters that torch.nn.utils.prune and torch.ao's sparsifiers mask: (module, its name, parameter, mask)."""
    for prefix, inner in module.named_modules():
        for name, buffer in list(inner.named_buffers(recurse=False)):
            stem = name.removesuffix("_mask")
            if name.endswith("_mask") and f"{stem}_orig" in dict(inner.named_parameters(recurse=False)):
                yield inner, prefix, stem, buffer
        for name, steps in getattr(inner, "parametrizations", {}).items():
            for step in steps:
                if isinstance(getattr(step, "mask", None), torch.Tensor):
                    yield inner, prefix, name, step.mask


def plain_copy(module: Any) -> Any:
    """A copy of a module whose pruned weights are plain parameters with exact zeros; the module stays as it is."""
    for inner, _, name, mask in pruned_parameters(module):
        if hasattr(inner, f"{name}_orig"):  # a result of autograd, which cannot be copied; every call makes it anew
            setattr(inner, name, (getattr(inner, f"{name}_orig") * mask).detach())
    plain = copy.deepcopy(module)
    for inner, _, name, mask in list(pruned_parameters(plain)):
        if hasattr(inner, f"{name}_orig"):
            prune.remove(inner, name)
        elif parametrize.is_parametrized(inner):
            _settle(inner)
        with torch.no_grad():
            parameter = getattr(inner, name)
            parameter[mask == 0] = 0  # 0 * NaN, and -0
    return plain


def _settle(inner: Any) -> None:
    """Make the parametrized weights of a copy plain ones.

    torch's own function takes them from the class, which the copy has in common with the module that it is of.
    """
    values = {name: getattr(inner, name).detach().clone() for name in inner.parametrizations}
    inner.__class__ = type(inner).__bases__[0]
    del inner._modules["parametrizations"]
    for name, value in values.items():
        inner.register_parameter(name, nn.Parameter(value))


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks by the name of the parameter, as state_dict has it: False where an element is pruned.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(8, 4))
    >>> masks = Masks.impose(net, "0.5")
    >>> round(masks.sparsity, 2), int((net[0].weight == 0).sum())
    (0.5, 16)
    """

    module: Any
    by_name: Mapping[str, Any]

    @staticmethod
    def of(module: Any) -> Masks:
        """The masks that a module has: of torch.nn.utils.prune, of the sparsifiers of torch.ao, or its zeros.

        A weight that is held off by neither, but has zeros, is masked where it is zero.
        """
        found = {_joined(prefix, name): mask.detach() != 0 for _, prefix, name, mask in pruned_parameters(module)}
        for name, parameter in module.named_parameters():
            inner = name.removesuffix("_orig").replace("parametrizations.", "").removesuffix(".original")
            if inner not in found and parameter.ndim > 1 and bool((parameter == 0).any()):
                found[name] = parameter.detach() != 0
        return Masks(module, found)

    @staticmethod
    def impose(module: Any, pattern: str, layers: Mapping[str, str | None] | None = None) -> Masks:
        """Prune the linear and convolutional weights of a module by magnitude, in place, in a pattern ("0.9:16x1").

        layers: another pattern by the name of a module, or a glob; None leaves it dense. What is 0 already stays so.
        UsageError for a name that no such module has.
        """
        rules = dict(layers or {})
        inner = {name: part for name, part in module.named_modules() if isinstance(part, WEIGHTS)}
        for name in rules:
            if not any(fnmatchcase(one, name) for one in inner):
                raise UsageError(
                    f"no layer with a weight is called {name!r}. {did_you_mean(name, list(inner))}".strip()
                )
        found = {}
        for name, part in inner.items():
            rule = next((rules[key] for key in reversed(rules) if fnmatchcase(name, key)), pattern)
            if rule is None or parametrize.is_parametrized(part) or hasattr(part, "weight_orig"):
                continue
            found[_joined(name, "weight")] = _keep(part, Imposed.parse(rule))
        masks = Masks(module, found)
        masks.apply()
        return masks

    @property
    def sparsity(self) -> float:
        """The share of zeros among the elements of all masks."""
        total = sum(mask.numel() for mask in self.by_name.values())
        return 1 - sum(int(mask.sum()) for mask in self.by_name.values()) / total if total else 0.0

    def apply(self) -> None:
        """Set what is masked to exactly 0."""
        parameters = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, mask in self.by_name.items():
                if name in parameters:  # what torch holds off itself has no such parameter
                    parameters[name].masked_fill_(~mask.to(parameters[name].device), 0)

    def follow(self, optimizer: Any) -> Callable[[], None]:
        """Apply the masks after every step of an optimizer. Call the result to end that."""
        handle = optimizer.register_step_post_hook(lambda *_: self.apply())
        return lambda: handle.remove()

    def arrays(self) -> dict[str, Any]:
        """The masks as NumPy arrays, as `masks=` of tesa.compile takes them for a file with the same names."""
        return {name: mask.cpu().numpy() for name, mask in self.by_name.items()}


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _keep(part: Any, imposed: Imposed) -> Any:
    """The mask of a weight, seen as (outputs, inputs x window)."""
    weight = part.weight.detach().cpu().float()
    turned = isinstance(part, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    rows = weight.transpose(0, 1) if turned else weight
    matrix = np.ascontiguousarray(rows.numpy()).reshape(rows.shape[0], -1)
    mask = torch.from_numpy(np.array(kept(matrix, imposed))).reshape(rows.shape)
    return (mask.transpose(0, 1) if turned else mask) & (weight != 0)
