"""Fast CPU code for every operator without a sparse weight: one pass, an ordered list of rules, a fallback at the end.

ScheduleOperators(core, threads) takes a module after LegalizeOps, FuseOps and FuseTIR and gives every PrimFunc in it
vector loops; each function then says in its attribute "tesa.schedule" which rule did it.
"""

from tesa.schedules.cpu.operators.codes_product import multiplies_codes
from tesa.schedules.cpu.operators.kinds import has_blocks, is_product, product_indices, spatial_steps
from tesa.schedules.cpu.operators.lookup import lookup, permutes_table
from tesa.schedules.cpu.operators.pass_ import ScheduleOperators, describe, operator_rules, schedule_function
from tesa.schedules.cpu.operators.products import batched_matmul
from tesa.schedules.cpu.operators.vector_math import VectorizableMath

__all__ = [
    "ScheduleOperators",
    "VectorizableMath",
    "batched_matmul",
    "describe",
    "has_blocks",
    "is_product",
    "lookup",
    "multiplies_codes",
    "operator_rules",
    "permutes_table",
    "product_indices",
    "schedule_function",
    "spatial_steps",
]
