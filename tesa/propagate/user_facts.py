"""Facts that a user gives: checked before they are believed, and named where they turn out to be wrong."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tesa.attributes.attribute import FULL_BITS, ContradictionError, Origin, TeSA, merge
from tesa.errors import UsageError
from tesa.frontend.names import did_you_mean
from tesa.propagate.network import Network


def check_facts(net: Network, given: Mapping[str, TeSA]) -> dict[str, TeSA]:
    """The given facts by the network's own names of its tensors; facts about two names of one tensor are merged.

    UsageError for a name that is no tensor of the network, a TeSA of another shape, a known value that is no number,
    bits without a quantization, or what is no TeSA at all. ContradictionError if the facts themselves disagree.

    >>> from tesa.attributes.attribute import from_mask
    >>> net = Network(shapes={"image": (1, 3)}, aliases={"same": "image"})
    >>> check_facts(net, {"same": from_mask([[1, 0, 1]])})
    {'image': TeSA(1x3: 33.3% known to be 0 (the user's mask))}
    >>> check_facts(net, {"imgae": from_mask([[1, 0, 1]])})
    Traceback (most recent call last):
    ...
    tesa.errors.UsageError: facts are given for 'imgae', which is no tensor of the model. Did you mean 'image'?
    """
    facts: dict[str, TeSA] = {}
    for name, given_facts in given.items():
        tensor = net.aliases.get(name, name)
        if tensor not in net.shapes:
            known = [*net.shapes, *net.aliases]
            near = did_you_mean(name, known) or f"Its tensors: {', '.join(known[:8])}{', ...' if known[8:] else ''}"
            raise UsageError(f"facts are given for {name!r}, which is no tensor of the model. {near}")
        _check_one(net, name, tensor, given_facts)
        old = facts.get(tensor)
        facts[tensor] = given_facts if old is None else merge_named(net, tensor, old, given_facts)
    return facts


def _check_one(net: Network, name: str, tensor: str, facts: Any) -> None:
    if not isinstance(facts, TeSA):
        raise UsageError(
            f"the facts given for {name!r} are a {type(facts).__name__}, expected a TeSA. Make one with "
            "tesa.attributes.attribute.from_mask or from_constant"
        )
    if tensor in net.dynamic:
        raise UsageError(
            f"facts are given for {name!r}, whose shape is known at run time only; nothing can be said of it"
        )
    if facts.shape != net.shapes[tensor]:
        raise UsageError(
            f"the facts given for {name!r} are about a tensor of shape {list(facts.shape)}, but it has "
            f"{list(net.shapes[tensor])}. Give a mask or constant of that shape"
        )
    if facts.value.dtype.kind == "f" and bool((facts.known & np.isnan(facts.value)).any()):
        raise UsageError(f"the facts given for {name!r} know a value that is NaN; leave such elements unknown")
    if facts.quantization is None and bool((facts.bits < FULL_BITS).any()):
        raise UsageError(
            f"the facts given for {name!r} say that it needs {int(facts.bits.min())} bits, but not on which grid. Give "
            "a quantization with them, see tesa.attributes.attribute.from_quantization"
        )


def merge_named(net: Network, tensor: str, a: TeSA, b: TeSA, cause: Origin | None = None) -> TeSA:
    """`merge` of two TeSAs of a tensor, whose error says which tensor of which layer it is.

    cause: who says `b`, where `b` itself has no origin.
    """
    try:
        return merge(a, b)
    except ContradictionError as error:
        if cause is not None and not any(origin.fact == "value" for origin in b.origins):
            return merge_named(net, tensor, a, replace(b, origins=b.origins | {replace(cause, fact="value")}))
        layer = next((node.operator.layer for node in net.nodes if tensor in node.outputs), "")
        of = f", made by layer {layer!r}" if layer else ", an input of the model" if "#" not in tensor else ""
        raise ContradictionError(f"tensor {tensor!r}{of}: {error}") from error
