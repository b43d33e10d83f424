"""Masks of PyTorch's own pruners, of patterns, and what training leaves of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the packages of the extra torch")
pytest.importorskip("onnxscript", reason="the packages of the extra torch")

import onnx  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from tesa.attributes.patterns import classify  # noqa: E402
from tesa.errors import UsageError  # noqa: E402
from tesa.torch import FineTuning, Masks, export  # noqa: E402
from tesa.torch.masks import plain_copy  # noqa: E402


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))


def trained(made: Any, optimizer: Any) -> None:
    """One step on random data."""
    optimizer.zero_grad()
    torch.autograd.backward((made(torch.randn(8, 32)) - 1).square().mean())
    optimizer.step()


@pytest.mark.parametrize("pruner", ["prune", "ao", "zeros"])
def test_masks_are_read_and_exported_as_zeros(pruner: str, tmp_path: Any) -> None:
    """Of each kind: the mask is found, training under it keeps it, and the ONNX file has exact zeros there."""
    made = net()
    if pruner == "prune":
        prune.l1_unstructured(made[0], "weight", 0.75)
    elif pruner == "ao":
        from torch.ao.pruning import WeightNormSparsifier

        sparsifier = WeightNormSparsifier(sparsity_level=0.75, sparse_block_shape=(1, 1), zeros_per_block=1)
        sparsifier.prepare(made, [{"tensor_fqn": "0.weight"}])
        sparsifier.step()
    else:
        with torch.no_grad():
            made[0].weight[:, :24] = 0
    masks = Masks.of(made)
    (name,) = masks.by_name
    assert name == "0.weight"
    assert masks.sparsity == pytest.approx(0.75)
    optimizer = torch.optim.Adam(made.parameters(), 0.01)
    with FineTuning(made, optimizer):
        trained(made, optimizer)
    plain = plain_copy(made)
    assert set(dict(plain.named_parameters())) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    export(made, torch.zeros(1, 32), tmp_path / "net.onnx")
    arrays = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "net.onnx").graph.initializer]
    assert 0.75 in [round(float(np.mean(a == 0)), 2) for a in arrays if a.shape == (32, 32)]


@pytest.mark.parametrize("pattern", ["0.7", "0.5:block=16x1", "2:4"])
def test_patterns_are_kept_while_training(pattern: str) -> None:
    made = net()
    optimizer = torch.optim.SGD(made.parameters(), 0.1, momentum=0.9)
    with FineTuning(made, optimizer, Masks.impose(made, pattern, {"2": None})) as run:
        zeros = made[0].weight == 0
        for score in (0.1, 0.5, 0.3):
            trained(made, optimizer)
            run.epoch(score)
            if score == 0.5:
                best = made[0].weight.clone()
    assert run.best_epoch == 1
    assert torch.equal(made[0].weight, best)
    assert torch.equal(made[0].weight == 0, zeros)
    assert not (made[2].weight == 0).any()
    if pattern != "0.7":
        assert classify(made[0].weight.detach().numpy()).kind == pattern.replace("0.5:", "").partition("=")[0].replace(
            "2:4", "n:m"
        )
    trained(made, optimizer)  # no longer followed
    assert not torch.equal(made[0].weight == 0, zeros)


def test_zeros_grow_from_epoch_to_epoch() -> None:
    made = net()
    optimizer = torch.optim.SGD(made.parameters(), 0.1)
    shares, before = [], None
    with FineTuning(made, optimizer) as run:
        for share in (0.3, 0.6, 0.9):
            run.prune(str(share))
            trained(made, optimizer)
            run.epoch(share)
            shares.append(round(run.masks.sparsity, 1))
            assert before is None or bool((made[0].weight[before] == 0).all())
            before = made[0].weight == 0
    assert shares == [0.3, 0.6, 0.9]


def test_wrong_use_is_told() -> None:
    made = net()
    with pytest.raises(UsageError, match="no layer"):
        Masks.impose(made, "0.5", {"3": None})
    run = FineTuning(made, torch.optim.SGD(made.parameters(), 0.1))
    with pytest.raises(UsageError, match="NaN"):
        run.epoch(float("nan"))
