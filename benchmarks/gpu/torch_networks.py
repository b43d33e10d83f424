"""The networks as others run them: dense, written in torch, by its own kernels and by torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.zoo import MOBILENET_V1

Call = Callable[[], Any]


def mobilenet_v1(torch: Any) -> tuple[Any, tuple[Any, ...]]:
    """The network with its batch normalization folded, as the zoo's, and an image."""
    nn = torch.nn
    layers: list[Any] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6()]
    before = 32
    for channels, stride in MOBILENET_V1:
        layers += [nn.Conv2d(before, before, 3, stride, 1, groups=before), nn.ReLU6()]
        layers += [nn.Conv2d(before, channels, 1), nn.ReLU6()]
        before = channels
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1000))
    return model, (torch.randn(1, 3, 224, 224),)


def bert_base(torch: Any) -> tuple[Any, tuple[Any, ...]]:
    """The encoder of twelve layers without its embeddings, a lookup, and 128 tokens."""
    layer = torch.nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
    return torch.nn.TransformerEncoder(layer, 12, enable_nested_tensor=False), (torch.randn(1, 128, 768),)


NETWORKS = {"mobilenet_v1": mobilenet_v1, "bert_base": bert_base}


def network_peers(torch: Any, name: str, device: str = "cuda") -> Iterator[tuple[str, Call]]:
    """(name, a call of the whole network) by torch: as it is and compiled, in float32 and in float16."""
    for kind in ("float32", "float16"):
        torch.manual_seed(0)
        model, given = NETWORKS[name](torch)
        model = model.eval().to(device, getattr(torch, kind))
        inputs = tuple(one.to(device, getattr(torch, kind)) for one in given)
        compiled = torch.compile(model, mode="max-autotune-no-cudagraphs")
        for how, made in (("eager", model), ("compile", compiled)):
            yield f"torch {how} {kind}", _without_gradients(torch, made, inputs)


def _without_gradients(torch: Any, model: Any, inputs: tuple[Any, ...]) -> Call:
    def call() -> Any:
        with torch.inference_mode():
            return model(*inputs)

    return call
