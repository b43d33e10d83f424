"""Builds a batched matrix product whose operands and result may each be stored with their last two axes swapped."""

from typing import Any

from tvm import te, tirx

from tesa.schedules.cpu.operators.tree import index


def batched_matmul(
    a_shape: tuple[int, ...],
    b_shape: tuple[int, ...],
    *,
    a_transposed: bool = False,
    b_transposed: bool = False,
    out_transposed: bool = False,
    scale: float | None = None,
    mask_shape: tuple[int, ...] | None = None,
) -> Any:
    """A PrimFunc (a, b, mask if any, out) for out[.., i, j] = scale * sum over k of a[.., i, k] * b[.., k, j] + mask.

    Shapes are as stored: an array with *_transposed set is stored as [.., k, i], [.., j, k] or [.., j, i]. The leading
    axes of a and b are equal. The mask broadcasts to the shape in which out is stored. All float32. The function is a
    plain loop nest: call it with relax.call_tir and let ScheduleOperators choose its code (rule "matmul"); FuseOps may
    put more behind it before that.

    ValueError where the shapes do not fit.

    >>> from tesa.schedules.types import Core
    >>> func = batched_matmul((12, 32, 128), (12, 32, 128), a_transposed=True, scale=0.125)
    >>> [list(map(int, p.shape)) for p in func.params]
    [[12, 32, 128], [12, 32, 128], [12, 128, 128]]
    >>> from tesa.schedules.cpu.operators import describe, schedule_function
    >>> describe(schedule_function(func, Core("avx512", lanes=16, registers=32)))
    'matmul'
    """
    rows, inner = _swap(a_shape, a_transposed)
    other, columns = _swap(b_shape, b_transposed)
    batch = a_shape[:-2]
    if inner != other or batch != b_shape[:-2]:
        raise ValueError(
            f"batched_matmul: a {a_shape} (transposed: {a_transposed}) has {inner} columns and batch {batch}, "
            f"b {b_shape} (transposed: {b_transposed}) has {other} rows and batch {b_shape[:-2]}; both must agree"
        )
    a, b = te.placeholder(_sizes(a_shape), name="a"), te.placeholder(_sizes(b_shape), name="b")
    k = te.reduce_axis((index(0), index(inner)), name="k")
    shape = _sizes((*batch, columns, rows) if out_transposed else (*batch, rows, columns))

    def element(*at: Any) -> Any:
        *lead, i, j = (*at[:-2], at[-1], at[-2]) if out_transposed else at
        left = a(*lead, k, i) if a_transposed else a(*lead, i, k)
        right = b(*lead, j, k) if b_transposed else b(*lead, k, j)
        return te.sum(left * right, axis=k)

    result = te.compute(shape, element, name="matmul")
    inputs = [a, b]
    if scale is not None:
        product, factor = result, tirx.const(scale, "float32")
        result = te.compute(shape, lambda *at: product(*at) * factor, name="scaled")
    if mask_shape is not None:
        mask = te.placeholder(_sizes(mask_shape), name="mask")
        inputs.append(mask)
        unmasked = result
        result = te.compute(shape, lambda *at: unmasked(*at) + mask(*_broadcast(at, mask_shape)), name="masked")
    return te.create_prim_func([*inputs, result]).without_attr("global_symbol")


def _swap(shape: tuple[int, ...], transposed: bool) -> tuple[int, int]:
    return (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])


def _sizes(shape: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(index(size) for size in shape)


def _broadcast(at: tuple[Any, ...], shape: tuple[int, ...]) -> list[Any]:
    own = at[len(at) - len(shape) :]
    return [index(0) if size == 1 else place for place, size in zip(own, shape, strict=True)]
