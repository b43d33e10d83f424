"""Names of GPUs as targets."""

import pytest

from tesa.errors import UsageError
from tesa.targets.gpus import gpu_kinds
from tesa.targets.target import list_targets, parse_target


@pytest.mark.parametrize(
    ("text", "name", "warp"),
    [
        ("cuda", "cuda:sm_80", 32),
        ("cuda:sm_90", "cuda:sm_90", 32),
        ("cuda:h200", "cuda:sm_90", 32),
        ("cuda -arch=sm_75", "cuda:sm_75", 32),
        ('{"kind": "cuda", "arch": "sm_89", "max_threads_per_block": 1024}', "cuda:sm_89", 32),
        ("nvptx", "cuda:sm_80", 32),
        ("rocm", "rocm:gfx90a", 64),
        ("rocm:gfx1100", "rocm:gfx1100", 32),
        ("rocm -mcpu=gfx942", "rocm:gfx942", 64),
        ({"kind": "rocm", "mcpu": "gfx906", "mtriple": "amdgcn-amd-amdhsa"}, "rocm:gfx906", 64),
        ("llvm -mtriple=amdgcn-amd-amdhsa -mcpu=gfx1030", "rocm:gfx1030", 32),
    ],
)
def test_names_of_gpus(text: object, name: str, warp: int) -> None:
    target = parse_target(text)  # type: ignore[arg-type]
    assert target.name == name
    assert target == parse_target(target.name) == parse_target(target.tvm)
    assert target.kind == "gpu"
    assert target.gpu is not None
    assert target.gpu.warp == warp
    assert target.machine is target.gpu


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda:sm_70", r"'sm_70'; nearest: .*sm_75"),
        ("cuda:70", r"nearest: sm_75"),
        ("rocm:gfx900", r"nearest: .*gfx90[6a]"),
        ("cuda -arch=sm_61", r"nearest: .*known are sm_75, sm_80"),
        ("cuda:", "no architecture behind the colon"),
        ({"kind": "cuda", "arch": 80}, "arch is a name such as sm_80"),
        ({"kind": "cuda", "mcpu": "sm_80"}, "unknown option 'mcpu'"),
        ("rocm:sm_80", "known are gfx906"),
        ("cuda:sm_8O", "nearest: .*sm_8"),
        ("cudaa", "nearest: cuda"),
    ],
)
def test_wrong_names_of_gpus(text: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_target(text)  # type: ignore[arg-type]


def test_every_listed_gpu_parses() -> None:
    names = {row.name for row in list_targets()}
    for kind in gpu_kinds():
        for name in kind.gpus:
            assert f"{kind.name}:{name}" in names
            assert parse_target(f"{kind.name}:{name}").gpu is kind.gpus[name]


def test_matrix_instructions() -> None:
    gpu = parse_target("cuda:sm_80").gpu
    assert gpu is not None
    dense, sparse = gpu.matrix("float16"), gpu.matrix("float16", sparse=True)
    assert dense is not None
    assert sparse is not None
    assert (dense.m, dense.n, dense.k, sparse.k) == (16, 8, 16, 32)
    assert gpu.matrix("float64") is None
    assert gpu.resident(168, 128) == 12
