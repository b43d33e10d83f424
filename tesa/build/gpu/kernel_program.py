"""The program of a library that holds one kernel."""

from dataclasses import replace

from tesa.build.gpu.library import Port, Program
from tesa.build.gpu.product import GpuProduct
from tesa.schedules.types import FloatArray, Problem


def program_of(problem: Problem, product: GpuProduct, bias: FloatArray | None, scale: FloatArray | None) -> Program:
    """A library's program that runs one kernel: X, and the residual if there is one, to Y."""
    inputs = [Port("X", problem.x_shape, problem.x_dtype)]
    if problem.epilogue.residual:
        inputs.append(Port("residual", problem.y_shape, problem.residual.dtype))
    names = {"x": "X", "y": "Y"}
    launches = tuple(
        replace(one, arguments=tuple(names.get(name, name) for name in one.arguments)) for one in product.launches
    )
    constants = {f"constant{i}": array for i, array in enumerate(product.constants)}
    constants |= {name: array for name, array in (("scale", scale), ("bias", bias)) if array is not None}
    memories = {f"scratch{i}": (size, None) for i, size in enumerate(product.scratch)}
    output = Port("Y", problem.y_shape, problem.output.dtype)
    return Program(tuple(inputs), (output,), product.modules, launches, constants, memories)
