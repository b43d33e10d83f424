"""GPU code for every operator without a sparse weight: an ordered list of rules, TVM's dlight first, a fallback last.

ScheduleOperators(gpu) takes a module after LegalizeOps, FuseOps and FuseTIR and binds the loops of every PrimFunc in it
to threads; each function then says in its attribute "tesa.schedule" which rule did it.
"""

from tesa.schedules.gpu.operators.legalize import legalization
from tesa.schedules.gpu.operators.pass_ import ScheduleOperators, describe, operator_rules, schedule_function

__all__ = ["ScheduleOperators", "describe", "legalization", "operator_rules", "schedule_function"]
