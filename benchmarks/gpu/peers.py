"""The same product by what others have: each is a function of X, or says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.cases import Case

Call = Callable[[Any], Any]


@dataclass(frozen=True)
class Peer:
    """Another library's kernel.

    make(torch, case, weight): a function of X, for a weight of float32 on the device. kind: of the elements that it
    takes X in; turning X into them is not its work, and not timed. tf32: products may be of TF32. exact: its result is
    compared with the kernel's closely.
    """

    make: Callable[[Any, Case, Any], Call]
    kind: str = "float32"
    tf32: bool = False
    exact: bool = False


def peers(torch: Any, case: Case, weights: list[Any]) -> Iterator[tuple[str, Peer, list[Call] | str]]:
    """(name, peer, a function for each copy of the weight, or the reason why there is none)."""
    for name, peer in PEERS.items():
        allow_tf32(torch, peer.tf32)
        try:
            yield name, peer, [peer.make(torch, case, weight) for weight in weights]
        except Exception as error:  # whatever a library raises for what it does not know
            yield name, peer, why(error)


def allow_tf32(torch: Any, allowed: bool) -> None:
    """Let products of float32 be those of TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def why(error: Exception) -> str:
    """The first line of what went wrong."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else ''}"


def _dense(kind: str) -> Callable[[Any, Case, Any], Call]:
    def make(torch: Any, case: Case, weight: Any) -> Call:
        own = weight.to(getattr(torch, kind))
        if case.side:
            own = own.view(case.m, -1, 3, 3)
            return lambda x: torch.nn.functional.conv2d(x, own, padding=1)
        return lambda x: own @ x

    return make


def _compiled(torch: Any, case: Case, weight: Any) -> Call:
    made: Call = torch.compile(_dense("float32")(torch, case, weight), mode="max-autotune-no-cudagraphs")
    return made


def _matrix(case: Case) -> None:
    if case.side:
        raise ValueError("knows no convolution")


def _cusparse(_torch: Any, case: Case, weight: Any) -> Call:
    _matrix(case)
    rows = weight.to_sparse_csr()
    return lambda x: rows @ x[0]


def _blocked(_torch: Any, case: Case, weight: Any) -> Call:
    _matrix(case)
    if case.block < 16:
        raise ValueError("takes blocks of 16 and more")
    rows = weight.half().to_sparse_bsr((case.block, case.block))
    from torch.sparse._triton_ops import bsr_dense_mm

    return lambda x: bsr_dense_mm(rows, x[0])


def _two_of_four(torch: Any, case: Case, weight: Any) -> Call:
    """cuSPARSELt's speed, on the two largest of each four: another weight, as it takes no other pattern."""
    _matrix(case)
    groups = weight.half().view(case.m, -1, 4)
    keep = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, groups.abs().topk(2, 2).indices, True)
    made = torch.sparse.to_sparse_semi_structured((groups * keep).view(case.m, case.k))
    return lambda x: torch.mm(made, x[0])


PEERS = {
    "cublas fp32": Peer(_dense("float32"), exact=True),
    "cublas tf32": Peer(_dense("float32"), tf32=True),
    "cublas fp16": Peer(_dense("float16"), "float16"),
    "torch.compile": Peer(_compiled, exact=True),
    "cusparse": Peer(_cusparse, exact=True),
    "cusparselt 2:4 fp16": Peer(_two_of_four, "float16"),
    "triton blocks": Peer(_blocked, "float16"),
}
