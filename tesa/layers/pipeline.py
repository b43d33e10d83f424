"""The passes behind the weight layers: everything else is legalized, fused and scheduled."""

from typing import Any

import tvm
from tvm import relax

from tesa.layers.outputs import own_outputs
from tesa.schedules.legalize import legalization
from tesa.schedules.types import Core


def schedule_rest(mod: Any, target: Any, core: Core, threads: int) -> Any:
    """Give every operator that is still a Relax operator a fused and scheduled function."""
    from tesa.schedules.cpu.operators import ScheduleOperators

    passes = [
        # An output is bound to the operator that computes it, where nothing turns it into a view of something else.
        relax.transform.CanonicalizeBindings(),
        # Operators become TIR; a reshape becomes a view again before fusion could turn it into a copy.
        relax.transform.LegalizeOps(legalization()),
        relax.transform.RewriteDataflowReshape(),
        # Constant expressions are computed once, chains of cheap operators become one function.
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
        own_outputs,
        # TVM would leave scalar loops.
        ScheduleOperators(core, threads),
    ]
    with target:
        return tvm.transform.Sequential(passes)(mod)
