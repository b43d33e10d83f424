"""The annotations with which a rule tells the loop rewriter what to make of a loop."""

VECTOR = "tesa.vector"
"""int, lanes: run this many iterations at once; what is left over at the end becomes one shorter vector."""

LANES = "tesa.lanes"
"""int, lanes: a reduction loop; keep this many partial results side by side and join them at the end."""

UNROLL = "tesa.unroll"
"""write the body out once for each iteration."""

PEEL = "tesa.peel"
"""cut the loop where a condition on its variable changes, so that no condition is left inside."""

SPATIAL = "tesa.spatial"
"""iterations are independent of each other: may run in parallel."""

SCHEDULE = "tesa.schedule"
"""PrimFunc attribute: the name of the rule that scheduled the function."""

EXACT = "tesa.exact"
"""PrimFunc attribute: a division stays one, where its result is rounded to a whole number."""
