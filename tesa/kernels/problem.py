"""Turns a weight and a few numbers, as a user gives them, into the Problem that kernels are made for."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tesa.attributes.codes import MAX_OUTLIERS, are_codes
from tesa.attributes.rounding import STORAGES, rounded
from tesa.choose.plan import epilogue_words
from tesa.choose.storage import check_arithmetic, kept_as
from tesa.errors import UnsupportedError, UsageError
from tesa.schedules.types import ACTIVATIONS, Epilogue, FloatArray, Output, Problem, Window
from tesa.targets.target import Target

OPS = ("linear", "conv2d", "depthwise")
DTYPES = ("float32", "int8", "mixed")
LAYOUTS = ("features_first", "features_last")
FLOAT = Output()
DEFAULT_N = 196
"""Columns of a linear layer's X where the user names none: the 14 x 14 pixels of a typical late layer."""

_RANKS = {
    "linear": (2, "(m, k)"),
    "conv2d": (4, "(out, in, kernel height, kernel width)"),
    "depthwise": (4, "(channels, 1, kernel height, kernel width)"),
}

Pair = int | Sequence[int]


def weight_array(weight: ArrayLike, op: str) -> FloatArray:
    """The weight as contiguous float32, in the user's shape. A scipy.sparse matrix is welcome.

    Raises UsageError for a wrong rank, no elements, a type that is not real numbers, and for NaN or infinity.
    """
    known(op, OPS, "op")
    if hasattr(weight, "toarray"):
        weight = weight.toarray()
    try:
        array = np.asarray(weight)
    except ValueError as error:
        raise UsageError(f"weight of {op}: not an array: {error}") from error
    rank, shape = _RANKS[op]
    if array.dtype.kind not in "fiub":
        raise UsageError(f"weight of {op}: its dtype is {array.dtype}; expected numbers, as float32")
    if array.ndim != rank:
        raise UsageError(f"weight of {op}: expected shape {shape}, got {array.shape}")
    if not array.size:
        raise UsageError(f"weight of {op}: shape {array.shape} has no elements; every size must be at least 1")
    if op == "depthwise" and array.shape[1] != 1:
        raise UsageError(f"weight of depthwise: expected shape {shape}, got {array.shape}; the second size must be 1")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise UsageError(
            f"weight of {op}: {array[place]} at {list(place)}, {len(bad)} such in all; "
            "weights must be finite in float32"
        )
    return array


def make_problem(
    weight: FloatArray,
    *,
    op: str,
    n: int | None,
    size: Sequence[int] | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    batch: int | None,
    epilogue: Epilogue,
    dtype: str,
    threads: int,
    output: Output = FLOAT,
    layout: str = LAYOUTS[0],
    x_zero: int = 0,
) -> Problem:
    """The problem of a weight that weight_array gave. The arguments are those of tesa.kernel."""
    known(dtype, DTYPES, "dtype")
    last = _is_last(layout, dtype, x_zero)
    _positive("threads", threads)
    if batch is not None:
        _positive("batch", batch)
    if dtype != "float32" and not last:
        _check_pointwise(dtype, weight, op, stride, padding)
    if dtype == "int8":
        _check_int8(weight, epilogue, output)
    if dtype == "mixed":
        _check_mixed(weight)
    if op == "linear":
        made = _linear(weight, n, size, batch, epilogue, threads)
        return _placed(replace(made, dtype=dtype, output=output), last, x_zero)
    if n is not None:
        raise UsageError(f"op {op!r} takes the size=(height, width) of its input, not n")
    if size is None:
        raise UsageError(f"op {op!r} needs size=(height, width) of its input")
    pads = _numbers("padding", padding, 0, (2, 4))
    top, left, bottom, right = (*pads, *pads)[:4]
    window = Window(
        *_two("size", size, 1),
        kernel=(int(weight.shape[2]), int(weight.shape[3])),
        stride=_two("stride", stride, 1),
        padding=(top, left, bottom, right),
        dilation=_two("dilation", dilation, 1),
    )
    if window.out_height < 1 or window.out_width < 1:
        raise UsageError(
            f"{op}: a kernel of {window.kernel} with dilation {window.dilation} does not fit into the input of "
            f"{(window.height, window.width)} with padding {window.padding} (top, left, bottom, right)"
        )
    m, channels = int(weight.shape[0]), int(weight.shape[0] if op == "depthwise" else weight.shape[1])
    k, n = int(np.prod(weight.shape[1:])), window.out_height * window.out_width
    x_shape = (batch or 1, channels, window.height, window.width)
    y_shape = (batch or 1, m, window.out_height, window.out_width)
    made = Problem(op, m, k, n, x_shape, y_shape, batch or 1, window, epilogue, dtype, threads, output=output)
    return _placed(made, last, x_zero)


def _is_last(layout: str, dtype: str, x_zero: int) -> bool:
    """True for a layout with features last, which codes may have; UsageError where other numbers want it."""
    known(layout, LAYOUTS, "layout")
    last = layout != LAYOUTS[0]
    if last and dtype != "int8":
        raise UsageError(f"layout {layout!r} belongs to dtype='int8'; {dtype} kernels know {LAYOUTS[0]!r} alone")
    if not isinstance(x_zero, int | np.integer) or isinstance(x_zero, bool) or not 0 <= x_zero <= 255:
        raise UsageError(f"x_zero must be a code of X, a whole number from 0 to 255, got {x_zero!r}")
    if x_zero and not last:
        raise UsageError(
            f"x_zero belongs to layout={LAYOUTS[1]!r}; elsewhere a zero point goes into the bias: subtract scale * "
            "x_zero * weight.sum(axis=1)"
        )
    return last


def _placed(problem: Problem, last: bool, x_zero: int) -> Problem:
    """The problem in its layout: features of X and Y are their second dimension but the last ones, or the last one."""
    if not last:
        return problem
    rank = 2 if problem.op == "linear" else 3

    def turned(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-rank], *shape[len(shape) - rank + 1 :], shape[-rank])

    shapes = turned(problem.x_shape), turned(problem.y_shape)
    return replace(problem, x_shape=shapes[0], y_shape=shapes[1], layout=LAYOUTS[1], x_zero=int(x_zero))


def make_output(dtype: str, output: str | None, scaled: bool, y_scale: float | None, y_zero: int | None) -> Output:
    """The numbers that Y holds. dtype: of the kernel; scaled: whether the sums are multiplied by a scale. The rest as
    tesa.kernel.

    >>> make_output("int8", None, False, None, None).dtype, make_output("mixed", None, False, None, None).dtype
    ('int32', 'float32')
    """
    known(dtype, DTYPES, "dtype")
    if dtype == "float32":
        if output not in (None, "float32") or scaled or y_scale is not None or y_zero is not None:
            raise UsageError(
                "scale, output, y_scale and y_zero belong to dtype='int8' and 'mixed'; float32 kernels write float32"
            )
        return FLOAT
    exact = dtype == "int8"
    chosen = output or ("int32" if exact and not scaled else "float32")
    known(chosen, ("int32",) * exact + ("float32", "uint8", "int8"), "output")
    if exact and (chosen == "int32") == scaled:
        raise UsageError(f"output {chosen!r} and scale: an int32 result is the bare sum, every other one needs a scale")
    if chosen in ("int32", "float32"):
        if y_scale is not None or y_zero is not None:
            raise UsageError(f"y_scale and y_zero belong to a quantized output, 'uint8' or 'int8', not to {chosen!r}")
        return Output(chosen)
    made = Output(chosen, 1.0 if y_scale is None else float(y_scale), 0 if y_zero is None else int(y_zero))
    low, high = made.range
    if not (np.isfinite(made.scale) and made.scale > 0 and low <= made.zero <= high):
        raise UsageError(f"y_scale must be positive and y_zero in {low} ... {high}, got {made.scale} and {made.zero}")
    return made


def storage_of(storage: str, arithmetic: str, target: Target) -> str:
    """The storage of a weight that a kernel of that arithmetic takes: sums of float16 are of such numbers.

    UnsupportedError where the target's CPU has no arithmetic of float16.
    """
    check_arithmetic(arithmetic, storage, target)
    return storage if arithmetic == "float32" else kept_as(arithmetic)


def round_to(weight: FloatArray, storage: str, dtype: str) -> FloatArray:
    """The weight rounded to numbers of a storage type. UsageError where one is too large for it."""
    known(storage, STORAGES, "storage")
    if storage == "float32":
        return weight
    if dtype != "float32":
        raise UsageError(f"storage {storage!r} belongs to dtype='float32'; {dtype} weights are stored in 8 bits")
    found = rounded(weight, storage)
    if not np.isfinite(found).all():
        raise UsageError(
            f"weight: {float(np.abs(weight).max()):g} is too large for {storage}; scale it, or store float32"
        )
    return found


def scale_array(scale: ArrayLike | None, m: int) -> FloatArray | None:
    """The scale of int8 sums as float32 (m,); one number stands for all rows. UsageError for another length."""
    if scale is None:
        return None
    array = np.asarray(scale)
    if array.dtype.kind not in "fiu" or array.size not in (1, m) or not np.isfinite(array).all():
        raise UsageError(f"scale: expected 1 or {m} finite numbers, got shape {array.shape} of {array.dtype}")
    return np.array(np.broadcast_to(array.reshape(-1), (m,)), np.float32)


def _check_pointwise(dtype: str, weight: FloatArray, op: str, stride: Pair, padding: Pair) -> None:
    step = tuple(stride) if isinstance(stride, Sequence) else (stride, stride)
    pointwise = op == "conv2d" and weight.shape[2:] == (1, 1) and step == (1, 1)
    if op != "linear" and not (pointwise and not np.any(padding)):
        raise UnsupportedError(
            f"{dtype} kernels {'of features first ' if dtype == 'int8' else ''}are made for linear layers and 1x1 "
            f"convolutions of stride 1, not for {op} of {weight.shape}; "
            + ("give layout='features_last', or " if dtype == "int8" else "")
            + "leave dtype out for a float32 kernel"
        )


def _check_int8(weight: FloatArray, epilogue: Epilogue, output: Output) -> None:
    whole = np.rint(weight)
    if not np.array_equal(whole, weight) or np.abs(weight + 0.5).max() > 127.5:
        raise UsageError("weight of an int8 kernel: expected whole numbers from -128 to 127; quantize it first")
    if output.dtype == "int32" and (epilogue.bias or epilogue.residual or epilogue.activation):
        raise UsageError("an int32 result is the bare sum: give a scale for a bias, a residual or an activation")


def _check_mixed(weight: FloatArray) -> None:
    """UsageError where so few elements are codes that the weight was hardly meant to have any."""
    outliers, nonzeros = int(np.count_nonzero(~are_codes(weight))), int(np.count_nonzero(weight))
    if outliers > MAX_OUTLIERS * nonzeros:
        raise UsageError(
            f"weight of a mixed kernel: {outliers} of its {nonzeros} non-zeros are no codes, whole numbers from -128 "
            f"to 127; expected {MAX_OUTLIERS:.0%} at most. Bring real weights into codes with tesa.decompose.in_codes, "
            "or leave dtype out for a float32 kernel"
        )


def make_epilogue(epilogue: str | Epilogue | None, bias: bool, scale: bool = False) -> Epilogue:
    """The epilogue that a user's text means: words joined by "+", such as "relu" or "residual+relu6".

    bias: whether a bias is given, which is then added whether the text says so or not; scale: likewise, for int8.

    >>> make_epilogue("residual+relu", bias=True)
    Epilogue(bias=True, residual=True, activation='relu', scale=False)
    """
    if isinstance(epilogue, Epilogue):
        words = epilogue_words(epilogue)
    elif epilogue is None or isinstance(epilogue, str):
        words = [word.strip() for word in epilogue.split("+")] if epilogue else []
    else:
        raise UsageError(f"an epilogue is text such as 'residual+relu', not {type(epilogue).__name__}")
    for word in words:
        known(word, ("bias", "residual", *ACTIVATIONS), "epilogue")
    if "bias" in words and not bias:
        raise UsageError("the epilogue adds a bias: give it, as bias=array of length m")
    functions = [word for word in words if word in ACTIVATIONS]
    if len(functions) > 1:
        raise UsageError(f"an epilogue has one activation at most, got {' and '.join(functions)}")
    return Epilogue(bias, "residual" in words, functions[0] if functions else None, scale)


def bias_array(bias: ArrayLike | None, m: int) -> FloatArray | None:
    """The bias as float32 (m,). UsageError for another length, or for numbers that are not finite."""
    if bias is None:
        return None
    array = np.asarray(bias)
    if array.dtype.kind not in "fiub" or array.size != m:
        raise UsageError(f"bias: expected {m} numbers, one for each output, got shape {array.shape} of {array.dtype}")
    array = np.ascontiguousarray(array.reshape(m), np.float32)
    if not np.isfinite(array).all():
        raise UsageError("bias: has numbers that are not finite in float32")
    return array


def known(name: str, names: Sequence[str], what: str) -> None:
    """UsageError with the nearest of names if name is not one of them."""
    if name not in names:
        near = get_close_matches(str(name), names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown {what} {name!r}; {hint}expected one of {', '.join(names)}")


def _linear(
    weight: FloatArray, n: int | None, size: object, batch: int | None, epilogue: Epilogue, threads: int
) -> Problem:
    if size is not None:
        raise UsageError("op 'linear' takes n, the columns of its X, not size")
    n = DEFAULT_N if n is None else n
    _positive("n", n)
    m, k = int(weight.shape[0]), int(weight.shape[1])
    x_shape, y_shape = ((k, n), (m, n)) if batch is None else ((batch, k, n), (batch, m, n))
    return Problem("linear", m, k, n, x_shape, y_shape, batch or 1, None, epilogue, "float32", threads)


def _positive(name: str, value: object) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}")


def _numbers(name: str, value: Any, least: int, lengths: tuple[int, ...] = (2,)) -> tuple[int, ...]:
    """One number for all directions, or one for each."""
    numbers = [value] * lengths[0] if isinstance(value, int | np.integer) else value
    if (
        not isinstance(numbers, list | tuple)
        or len(numbers) not in lengths
        or not all(isinstance(number, int | np.integer) and number >= least for number in numbers)
    ):
        count = " or ".join(str(length) for length in lengths)
        raise UsageError(f"{name} must be a number or {count} numbers, each at least {least}; got {value!r}")
    return tuple(int(number) for number in numbers)


def _two(name: str, value: Any, least: int) -> tuple[int, int]:
    first, second = _numbers(name, value, least)
    return first, second
