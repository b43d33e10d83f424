"""The names of the functions that the loops of a model become, by which they are told from kernels."""

LOOP = "tesa_loop_"
"""What the name of a function begins with that makes some steps of a loop."""

STEP = "tesa_step_"
"""What the name of a function begins with that is the body of a loop."""
