"""A compiled module in the place of PyTorch's: numbers, memory, state, errors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the packages of the extra torch")
pytest.importorskip("onnxscript", reason="the packages of the extra torch")

from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

import tesa.torch  # noqa: E402
from tesa.errors import TesaError  # noqa: E402


class Net(nn.Module):
    """A convolution with batch norm, pruned by elements, one pruned by filters, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.second, self.last = nn.Conv2d(16, 16, 1), nn.Linear(16, 4)

    def forward(self, x: Any, scale: Any = None) -> Any:
        inner = torch.relu(self.second(torch.relu(self.norm(self.first(x)))))
        result = self.last(inner.mean((2, 3)))
        return {"result": result if scale is None else result * scale, "inner": inner, "count": 3}


INPUTS = (torch.ones(2, 3, 8, 8), torch.full((2, 1), 0.5))


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    torch.manual_seed(0)
    net = Net()
    prune.l1_unstructured(net.first, "weight", 0.5)
    prune.ln_structured(net.second, "weight", 0.5, n=2, dim=0)
    net.train()(*INPUTS)  # statistics of the batch norm
    made = tesa.torch.compile(net, INPUTS, measure=False)
    assert net.training
    assert hasattr(net.first, "weight_orig")
    return net.eval(), made


def test_it_stands_in_the_modules_place(pair: tuple[Any, Any]) -> None:
    """Positions and keywords in any order, nested outputs with what is no tensor, the numbers of the module."""
    net, made = pair
    x, scale = torch.randn(2, 3, 8, 8), torch.rand(2, 1)
    with torch.no_grad():
        wanted = net(x, scale)
        for found in (made(x, scale), made(scale=scale, x=x), made(x, scale=scale)):
            assert found["count"] == 3
            for name in ("result", "inner"):
                torch.testing.assert_close(found[name], wanted[name])
    kept = found["result"].clone()
    made(torch.randn(2, 3, 8, 8), scale)
    assert torch.equal(found["result"], kept)  # a later call does not write there
    strided = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(made(strided, scale)["result"], wanted["result"])


def test_its_kernels_are_for_the_masks(pair: tuple[Any, Any]) -> None:
    layers = {row.layer: row for row in pair[1].model.plan.layers if row.kind == "sparse"}
    assert [round(row.sparsity, 2) for row in layers.values()] == [0.5, 0.5, 0.5]  # the last one by propagation


def test_nothing_is_copied(pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The model gets the tensors' own memory, and what comes back is the memory that it wrote."""
    made, seen, given = pair[1], [], []
    execute = made.model.execute

    def watched(prepared: Any) -> Any:
        given.extend(torch.from_dlpack(item).data_ptr() for item in prepared)
        result = execute(prepared)
        seen.extend(torch.from_dlpack(item).data_ptr() for item in result)
        return result

    monkeypatch.setattr(made.model, "execute", watched)
    x, scale = torch.randn(2, 3, 8, 8), torch.rand(2, 1)
    found = made(x, scale)
    assert given == [x.data_ptr(), scale.data_ptr()]
    assert {found["result"].data_ptr(), found["inner"].data_ptr()} == set(seen)


def test_state(pair: tuple[Any, Any]) -> None:
    """Its state is the module's, within another module too; a file holds it whole."""
    net, made = pair
    state = made.state_dict()
    assert set(state) == set(Net().state_dict())
    assert torch.equal(state["first.weight"], net.first.weight)
    assert "0.last.bias" in nn.Sequential(made).state_dict()
    assert not list(made.parameters())
    made.load_state_dict(state)
    assert made.eval() is made
    assert made.to("cpu") is made
    again = pickle.loads(pickle.dumps(made))
    torch.testing.assert_close(again(*INPUTS)["result"], made(*INPUTS)["result"])


WRONG: list[tuple[Callable[[Any], Any], str]] = [
    (lambda made: made.train(), "cannot be trained"),
    (lambda made: nn.Sequential(made).train(), "cannot be trained"),
    (lambda made: made.half(), "float16"),
    (lambda made: made(INPUTS[0].clone().requires_grad_(), INPUTS[1]), "no gradient"),
    (lambda made: made(INPUTS[0]), "expected 2 tensors"),
    (lambda made: made(torch.ones(1, 3, 8, 8), INPUTS[1]), "shape"),
    (lambda made: made(INPUTS[0].double(), INPUTS[1]), "float64"),
    (lambda made: made.load_state_dict({k: v + 1 for k, v in made.state_dict().items()}), "compile that again"),
    (lambda made: tesa.torch.compile(lambda x: x, INPUTS[0]), "torch.nn.Module"),
    (lambda made: tesa.torch.compile(Net(), 3), "no tensor"),
    (lambda made: tesa.torch.compile(Net(), torch.ones(2, 4, 8, 8)), "Net"),
]


@pytest.mark.parametrize(("call", "words"), WRONG)
def test_wrong_use_is_told(pair: tuple[Any, Any], call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(TesaError, match=words):
        call(pair[1])
