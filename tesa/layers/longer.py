"""Chains that go on behind a quantize: sums that are rounded to codes between two operators, in one kernel.

before:  c = quantize(matmul(x, W));  y = quantize(dequantize(c) + bias)          after:  one layer with Problem.inner
Quantizers put codes behind every operator, also where the next one would be a step of the layer's epilogue. To compute
that step a tensor of codes would be written and read again; in the kernel the rounding is four instructions a vector.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tesa.layers.anchors import Chain, consumers_of, extend
from tesa.layers.codes import grid_of
from tesa.layers.expressions import op_name
from tesa.schedules.types import Output


def lengthen(
    bindings: Sequence[Any], outputs: set[Any], chains: Iterable[Chain], others: Iterable[Chain]
) -> list[Chain]:
    """The chains, each as long as it can be with codes on the way. others: those that stay as they are.

    A chain that became longer has the one that it was as `short`.
    """
    consumers = consumers_of(bindings)
    chains = list(chains)
    taken = {var for chain in (*chains, *others) for var in (*chain.absorbed, chain.last)}
    found = []
    for chain in chains:
        longest = chain
        while (longer := _longer(longest, consumers, outputs, taken)) is not None:
            longest = longer
            taken |= {*longest.absorbed, longest.last}
        found.append(longest if longest is chain else replace(longest, short=chain))
    return found


def _longer(
    chain: Chain, consumers: Mapping[Any, list[Any]], outputs: set[Any], taken: set[Any]
) -> Chain | None:  # fmt: skip
    """The chain up to the next quantize behind its own; None where it cannot go on, or would not end with one."""
    if chain.store is None or chain.activation is not None:
        return None
    grid, users = grid_of(chain.store.value), consumers.get(chain.store.var, [])
    if grid is None or len(users) != 1 or chain.store.var in outputs:
        return None
    (decode,) = users
    if op_name(decode.value) != "relax.dequantize" or grid_of(decode.value) != grid or decode.var in outputs:
        return None
    step = "residual" if chain.residual is not None else "bias" if chain.bias is not None else "scale"
    made = replace(
        chain, last=decode.var, absorbed=[*chain.absorbed, chain.last, chain.store.var], store=None,
        inner=(*chain.inner, (step, Output("uint8", grid.scale, grid.zero))),
    )  # fmt: skip
    while extend(made, consumers.get(made.last, []), outputs, taken):
        pass
    users = consumers.get(made.last, [])
    if made.last.same_as(decode.var) or len(users) != 1 or made.last in outputs:
        return None
    (last,) = users
    if op_name(last.value) != "relax.quantize" or grid_of(last.value) is None:
        return None
    made.store = last
    return made
