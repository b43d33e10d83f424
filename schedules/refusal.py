"""The reason why a kernel family does not apply: an empty space that says it."""

from collections.abc import Sequence

from tesa.schedules.types import Config, Problem

NO_GATHER = "it needs a CPU that permutes bytes of whole registers, as AVX-512 VBMI and NEON do"
NO_BYTES = (
    "it needs a CPU that permutes bytes and adds up products of them, as x86 from SSSE3 on and NEON with dot products "
    "do, and of features_first one that permutes whole registers"
)
NO_DOT = "it needs a CPU that adds up the products of four bytes, as AVX-512 VNNI and NEON's dot products do"


class Refusal(tuple[Config, ...]):
    """An empty space of configurations with the reason why there is none."""

    reason: str

    def __new__(cls, reason: str) -> "Refusal":
        made = super().__new__(cls)
        made.reason = reason
        return made


def refuse(reason: str) -> Refusal:
    """The space of a family that does not apply.

    reason: what it needs, and what it was given, in the words of who asks for a kernel.

    >>> refuse("it needs a weight with zeros")
    ()
    """
    return Refusal(reason)


def reason_of(space: Sequence[Config]) -> str:
    """The reason why a space is empty; "" for one that is not.

    >>> reason_of(refuse("it needs a weight with zeros")), reason_of([{"rows": 4}]), reason_of([])
    ('it needs a weight with zeros', '', 'it has no configuration for this problem')
    """
    if len(space):
        return ""
    return space.reason if isinstance(space, Refusal) else "it has no configuration for this problem"


def unsuited(
    problem: Problem,
    *,
    ops: tuple[str, ...] = ("linear", "conv2d"),
    dtypes: tuple[str, ...] = ("float32",),
    pointwise: bool = False,
) -> str:
    """The reason why a family of these operators and types does not compute a problem; "" where it does.

    pointwise: it knows matrix products and 1x1 convolutions only.

    >>> unsuited(Problem("linear", 8, 12, 16, (1, 12, 16), (1, 8, 16), dtype="int8"))
    'it computes float32 weights, and this one is int8'
    """
    if problem.op not in ops:
        return f"it computes {_listed(ops)}, and this is {problem.op}"
    if problem.dtype not in dtypes:
        return f"it computes {_listed(dtypes)} weights, and this one is {problem.dtype}"
    if pointwise and not problem.pointwise:
        window = problem.window
        assert window is not None
        sizes = "x".join(map(str, window.kernel)), "x".join(map(str, window.stride))
        return "it computes products and unpadded 1x1 convolutions, and this one is {}, stride {}".format(*sizes)
    return ""


def too_full(nonzeros: int, size: int, most: float) -> str:
    """The reason why a family does not compute a weight with more non-zeros than a share; "" where there are fewer.

    >>> too_full(90, 100, 0.8)
    'it needs 20 % zeros, and this weight has 10.0 %'
    """
    if nonzeros <= most * size:
        return ""
    return f"it needs {100 * (1 - most):.0f} % zeros, and this weight has {100 * (1 - nonzeros / size):.1f} %"


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names)
