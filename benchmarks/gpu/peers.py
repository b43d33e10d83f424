"""The same product by what others have: each is a function that makes a call, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu.cases import Case

Call = Callable[[Any], Any]


def peers(torch: Any, case: Case, weight: Any, x: Any) -> Iterator[tuple[str, Call | str]]:
    """(name, a function of X, or the reason why there is none). weight, x: tensors of float32 on the device."""
    for name, make in _PEERS.items():
        try:
            yield name, make(torch, case, weight, x)
        except Exception as error:  # whatever a library raises for what it does not know
            yield name, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _dense(torch: Any, case: Case, weight: Any, _x: Any, kind: str, tf32: bool = False) -> Call:
    own = weight.to(getattr(torch, kind))

    def call(x: Any) -> Any:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        if case.side:
            return torch.nn.functional.conv2d(x.to(own.dtype), own.view(case.m, -1, 3, 3), padding=1)
        return own @ x.to(own.dtype)

    return call


def _compiled(torch: Any, case: Case, weight: Any, x: Any) -> Call:
    made = torch.compile(_dense(torch, case, weight, x, "float32"), mode="max-autotune-no-cudagraphs")
    made(x)
    call: Call = made
    return call


def _matrix(case: Case) -> None:
    if case.side:
        raise ValueError("knows no convolution")


def _cusparse(torch: Any, case: Case, weight: Any, _x: Any) -> Call:
    _matrix(case)
    rows = weight.to_sparse_csr()
    return lambda x: rows @ x[0]


def _blocked(torch: Any, case: Case, weight: Any, _x: Any) -> Call:
    _matrix(case)
    if case.block < 16:
        raise ValueError("takes blocks of 16 and more")
    rows = weight.half().to_sparse_bsr((case.block, case.block))
    from torch.sparse._triton_ops import bsr_dense_mm

    return lambda x: bsr_dense_mm(rows, x[0].half())


def _two_of_four(torch: Any, case: Case, weight: Any, _x: Any) -> Call:
    """cuSPARSELt's speed, on the two largest of each four: another weight, as it takes no other pattern."""
    _matrix(case)
    groups = weight.half().view(case.m, -1, 4)
    keep = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, groups.abs().topk(2, 2).indices, True)
    made = torch.sparse.to_sparse_semi_structured((groups * keep).view(case.m, case.k))
    return lambda x: torch.mm(made, x[0].half())


_PEERS: dict[str, Callable[[Any, Case, Any, Any], Call]] = {
    "cublas fp32": lambda *a: _dense(*a, "float32"),
    "cublas tf32": lambda *a: _dense(*a, "float32", True),
    "cublas fp16": lambda *a: _dense(*a, "float16"),
    "torch.compile": _compiled,
    "cusparse": _cusparse,
    "cusparselt 2:4 fp16": _two_of_four,
    "triton blocks": _blocked,
}
EXACT = ("cublas fp32", "torch.compile", "cusparse")
"""Peers whose result is compared with the kernel's closely."""
