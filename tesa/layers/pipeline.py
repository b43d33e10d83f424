"""The passes behind the weight layers: everything else is legalized, fused and scheduled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from tesa.layers.code_products import code_products
from tesa.layers.decoding import decode_in_place
from tesa.layers.origins import taken_in, with_own_names
from tesa.layers.outputs import own_outputs
from tesa.layers.tables import tables
from tesa.schedules.gpus import Gpu
from tesa.schedules.legalize import legalization
from tesa.schedules.types import Core


@dataclass(frozen=True)
class Scheduled:
    """The scheduled module. parts: for a variable of "main" those of the lowered function that were fused into it."""

    mod: Any
    parts: Mapping[str, tuple[str, ...]]


def schedule_for_gpu(mod: Any, target: Any, gpu: Gpu) -> Scheduled:
    """Give every operator a fused function whose loops are bound to the threads of a GPU."""
    from tesa.schedules.gpu.operators import ScheduleOperators
    from tesa.schedules.gpu.operators import legalization as for_gpu

    before = [
        relax.transform.DeadCodeElimination(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.LegalizeOps(for_gpu()),
        relax.transform.RewriteDataflowReshape(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
    ]
    after = [
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
        own_outputs,
        ScheduleOperators(gpu),
    ]
    return _fused(mod, target, before, after)


def schedule_rest(mod: Any, target: Any, core: Core, threads: int) -> Scheduled:
    """Give every operator that is still a Relax operator a fused and scheduled function."""
    from tesa.schedules.cpu.operators import ScheduleOperators

    before = [
        # What a kernel computes as well, of a model whose operators say it in another way.
        relax.transform.DeadCodeElimination(),
        # A function of one code is a table.
        tables(core, threads),
        # A product of codes is one of integers.
        code_products(core),
        # An output is bound to the operator that computes it, where nothing turns it into a view of something else.
        relax.transform.CanonicalizeBindings(),
        # Operators become TIR; a reshape becomes a view again before fusion could turn it into a copy.
        relax.transform.LegalizeOps(legalization()),
        relax.transform.RewriteDataflowReshape(),
        # Constant expressions are computed once, chains of cheap operators become one function.
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
    ]
    after = [
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
        # Bytes are read by what needs their numbers.
        decode_in_place,
        own_outputs,
        # TVM would leave scalar loops.
        ScheduleOperators(core, threads),
    ]
    return _fused(mod, target, before, after)


def _fused(mod: Any, target: Any, before: Sequence[Any], after: Sequence[Any]) -> Scheduled:
    """The module behind some passes, fusion and some more passes."""
    with target:
        plain = tvm.transform.Sequential(before)(mod)
        fused = with_own_names(relax.transform.FuseOps()(plain))
        return Scheduled(tvm.transform.Sequential(after)(fused), taken_in(plain, fused))
