"""One kernel for exploration: made for a weight, by the fastest family or the one that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from tesa.base.keywords import helpful
from tesa.base.numbers import whole
from tesa.base.progress import Progress, automatic, telling
from tesa.base.renamed import renamed
from tesa.base.scratch import Scratch
from tesa.choose.predict import table_for
from tesa.choose.shortlist import INSTRUCTIONS
from tesa.kernels.compiled import Kernel
from tesa.kernels.gpu import gpu_kernel
from tesa.kernels.options import families_of, one_option
from tesa.kernels.problem import Pair
from tesa.kernels.request import request
from tesa.records.log import Log
from tesa.schedules.types import Config, Epilogue
from tesa.targets.target import refuse_gpu
from tesa.tune.choose import choose


@helpful("tesa.kernel")
def kernel(
    weight: ArrayLike,
    n: int | None = None,
    *,
    op: str = "linear",
    size: Sequence[int] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    batch: int | None = None,
    dtype: str = "float32",
    epilogue: str | Epilogue | None = None,
    bias: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    output: str | None = None,
    y_scale: float | None = None,
    y_zero: int | None = None,
    storage: str = "float32",
    arithmetic: str = "float32",
    flush_denormals: bool = True,
    target: Any = None,
    family: str | Sequence[str] | None = None,
    config: Config | None = None,
    threads: int = 1,
    measure: bool = True,
    code_budget: int = INSTRUCTIONS,
    max_bytes: int | None = None,
    log: str | Path | Log | None = None,
    jobs: int | None = None,
    progress: Progress | None = automatic,
    form: str | Sequence[str] | None = None,
    layout: str = "features_first",
    x_zero: int = 0,
) -> Any:
    """Make a kernel for exactly this weight: Y = epilogue(W X).

    op "linear": weight is (m, k), X (k, n) or with batch=b (b, k, n); n is 196 if not given. op "conv2d": weight is
    (out, in, height, width), X (batch, in, *size); stride, padding and dilation are a number or one for each direction,
    padding also (top, left, bottom, right). op "depthwise": weight is (channels, 1, height, width).

    epilogue: None, or what follows the sum, joined by "+": "bias", "residual", and one of relu, relu6, gelu, silu,
    sigmoid, tanh, hardswish, gelu_tanh; bias: m numbers. target: see tesa.targets.target.parse_target, by default this
    machine.
    family: the name of the kernel family or decomposition to take, or of those that compete (form is the old name of
    this); config: one configuration of the one family, out of those that it offers for this weight. threads: how many
    run the kernel. measure=False measures nothing: it takes what the log knows to be the fastest, for this weight or
    the nearest one, else what is expected to be, by the cost table of the target where there is one (`tesa
    calibrate`). code_budget: straight-line instructions that the measured candidates may have together, each about 10
    microseconds to compile and 8 bytes; what the log already knows competes whatever its size, and the plan names what
    was left out. progress: what is told how far it is, by default a bar in a terminal or notebook; None for
    silence. max_bytes: of the kernel's code and constants; a smaller one is taken where the fastest has more. log:
    folder of measured records, read and added to.

    dtype "int8": the weight holds whole numbers from -128 to 127, X is uint8, sums are int32. Without scale Y is the
    bare int32 sum. scale (one number or m): the sum times scale, plus bias, through the epilogue; output says how it is
    stored: "float32" (default), or "uint8" or "int8" as clip(round(y / y_scale) + y_zero), where 1 and 0 are the
    defaults. bias and residual are real numbers, not codes. A zero point z of X goes into the bias: subtract
    scale * z * weight.sum(axis=1).

    layout "features_last", of dtype "int8": X is (n, k), or (batch, n, k), of a convolution (batch, *size, in), and Y
    and the residual are (n, m) or (batch, height, width, out): tokens x features, and NHWC. Convolutions of any window
    are computed so, without im2col. x_zero: the zero point of X, which is subtracted from it, and pads a convolution.

    target "cuda" or "rocm": the kernel is a GpuKernel, see tesa.kernels.gpu. It is called on tensors that lie on a GPU,
    or on arrays of NumPy, which are copied there and back; `facts` says its registers and its time by the static model,
    `show("ptx")`, "sass", "amd" or "tir" its code. No GPU is needed to make it: where no
    driver is found, the log decides or the static model of time.

    dtype "mixed": as int8, but some elements of the weight, the outliers, are any float32 numbers, in the unit of the
    codes: scale[m] holds for both. Codes are added up exactly, outliers in float32. Y is float32, also without a scale,
    or quantized as output says. tesa.decompose.in_codes brings real weights into that form, and says their scale.

    storage "float16" or "bfloat16" rounds the weight to such numbers, so that a kernel that is bound by reading weights
    (n of a few columns) reads half as many bytes; it computes in float32.

    arithmetic "float16" allows sums of float16, twice as fast where a CPU has them: weight and X are rounded to it, and
    so is each sum on the way; Y is float32. Numbers beyond 65504 become infinite. UnsupportedError for another CPU.
    For GPUs there are "bfloat16" and "tfloat32" too, of which their matrix units make products.

    flush_denormals: elements below 1.2e-38, as weight decay leaves them where zeros were meant, are taken for zeros,
    and a warning says how many; False computes with them, slowly.

    Raises UsageError for a weight or option that makes no sense, UnsupportedError for what tesa cannot do yet.

    >>> import numpy as np
    >>> weight = np.diag([1.0, 2.0, 0.0, 4.0])
    >>> k = kernel(weight, n=3, family="dense", measure=False)
    >>> k(np.ones((4, 3), np.float32))
    array([[1., 1., 1.],
           [2., 2., 2.],
           [0., 0., 0.],
           [4., 4., 4.]], dtype=float32)

    A convolution of codes, of an image of 4 x 4 with 2 channels:

    >>> k = kernel(np.ones((3, 2, 3, 3)), op="conv2d", size=(4, 4), dtype="int8", layout="features_last", measure=False)
    >>> k(np.ones((1, 4, 4, 2), np.uint8)).tolist()[0][0]
    [[18, 18, 18], [18, 18, 18]]

    Weights on a grid of 1/4, all but one:

    >>> from tesa.decompose import in_codes
    >>> codes = in_codes(np.array([[0.5, -1.0, 0.75, 100.3]], np.float32), np.array([0.25], np.float32))
    >>> k = kernel(codes.weight, n=16, dtype="mixed", scale=codes.scale, family="precision", measure=False)
    >>> [(part.bits, part.nonzeros) for part in k.plan.parts]
    [(8, 3), (32, 1)]
    >>> k(np.ones((4, 16), np.uint8))[0, :2]
    array([100.55, 100.55], dtype=float32)
    """
    asked = request(
        weight, n, op=op, size=size, stride=stride, padding=padding, dilation=dilation, batch=batch, dtype=dtype,
        epilogue=epilogue, bias=bias, scale=scale, output=output, y_scale=y_scale, y_zero=y_zero, storage=storage,
        arithmetic=arithmetic, flush_denormals=flush_denormals, target=target, threads=threads, layout=layout,
        x_zero=x_zero,
    )  # fmt: skip
    problem, matrix, where = asked.problem, asked.weight, asked.target
    families = families_of(renamed("form", form, "family", family))
    if where.gpu is not None:
        if max_bytes is not None:
            refuse_gpu(where, "tesa.kernel(max_bytes=...)")
        options = None if config is None else one_option(problem, matrix, where, families, config, None)
        return gpu_kernel(
            problem,
            matrix,
            asked.bias,
            asked.scale,
            where,
            families=families,
            options=options,
            jobs=jobs,
            log=log,
            measure=measure,
        )
    table = table_for(where, problem.threads, log)
    options = None if config is None else one_option(problem, matrix, where, families, config, table)
    with telling(progress) as show, Scratch() as name:
        (chosen,) = choose(
            [asked.layer], where, log=log, measure=measure, jobs=jobs, families=families,
            options=options, folder=Path(name), progress=show,
            instructions=code_budget, table=table,
            max_bytes=None if max_bytes is None else whole("max_bytes", max_bytes),
        )  # fmt: skip
        return Kernel(chosen, problem, matrix, asked.bias, where, asked.scale)  # which links the objects
