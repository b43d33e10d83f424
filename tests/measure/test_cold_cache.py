"""How much is read between two calls: by what the kernel reads, its columns and the machine's caches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesa.base.hostinfo import read_cpu
from tesa.measure.cold_cache import FEW_COLUMNS, MOST_BYTES, OTHER_BYTES, host_caches, other_bytes
from tesa.measure.remote.code import DeviceLinker
from tesa.measure.remote.device_kernel import DeviceKernel
from tesa.measure.remote.messages import SessionRequest, Workload
from tests.measure.remote import kernels

MIB = 1 << 20


@pytest.mark.parametrize(
    ("kernel", "columns", "second", "last", "wanted"),
    [
        (4 * MIB, 1, MIB, 32 * MIB, 48 * MIB),  # more weights than a core's second cache holds, one column
        (4 * MIB, FEW_COLUMNS, MIB, 32 * MIB, 48 * MIB),
        (4 * MIB, FEW_COLUMNS + 1, MIB, 32 * MIB, OTHER_BYTES),  # columns enough to read weights beside computing
        (MIB, 1, MIB, 32 * MIB, OTHER_BYTES),  # fits
        (MIB + 1, 1, MIB, 32 * MIB, 48 * MIB),
        (4 * MIB, 1, 8 * MIB, 32 * MIB, OTHER_BYTES),
        (4 * MIB, 0, MIB, 32 * MIB, OTHER_BYTES),  # nobody knows how many columns
        (4 * MIB, 1, MIB, 768 * MIB, MOST_BYTES),
        (4 * MIB, 1, 0, 0, 48 * MIB),  # a system that does not tell its caches
        (MIB, 1, 0, 0, OTHER_BYTES),
        (4 * MIB, 1, MIB // 4, MIB // 2, OTHER_BYTES),
    ],
)
def test_size(kernel: int, columns: int, second: int, last: int, wanted: int) -> None:
    assert other_bytes(kernel, columns, second, last) == wanted


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 20), st.integers(0, 1 << 33), st.integers(0, 1 << 33))
def test_bounds(kernel: int, columns: int, second: int, last: int) -> None:
    found = other_bytes(kernel, columns, second, last)
    assert OTHER_BYTES <= found <= MOST_BYTES
    assert found in (OTHER_BYTES, MOST_BYTES) or found > last


def test_this_machine() -> None:
    levels = [cache.level for cache in read_cpu().caches]
    second, last = host_caches()
    assert (second > 0) == (2 in levels)
    assert (last > 0) == bool(levels)
    assert last >= second


def test_a_device_reads_as_much_as_its_caches_ask_for(tmp_path: Path) -> None:
    import tvm
    from tvm import rpc

    built, path = kernels.right(tmp_path), tmp_path / "candidate.so"
    DeviceLinker(tmp_path).link(built, path)
    session = rpc.LocalSession()
    session.upload(str(path), "candidate.so")
    library = session.load_module("candidate.so")
    sizes = tvm.runtime.empty((2,), "int64", device=session.cpu(0))
    library.get_function("tesa_caches")(sizes)
    assert tuple(sizes.numpy().tolist()) == host_caches()
    request = SessionRequest("", 0, "", 1, 1, "", library=str(path), symbol=built.symbol, constants=built.constants)
    layer = Workload.of(kernels.PROBLEM, kernels.WEIGHT)
    assert layer.columns == kernels.PROBLEM.n * kernels.PROBLEM.batch
    assert layer.weight_bytes == kernels.WEIGHT.nbytes
    assert DeviceKernel(session, library, request, layer)._other_bytes == OTHER_BYTES
    second, last = host_caches()
    much = 2 * (second or OTHER_BYTES)
    large = DeviceKernel(session, library, request, replace(layer, weight_bytes=much, columns=1))
    assert large._other_bytes == other_bytes(much, 1, second, last) > OTHER_BYTES
    assert large.compare() == ""
    timing = large.time(1.0)
    assert 0 < timing.min_ms <= timing.median_ms
    assert timing.repeats >= 3
