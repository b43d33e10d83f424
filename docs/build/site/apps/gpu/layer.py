"""A kernel of tesa in a PyTorch model: it works on torch's tensors where they lie, on torch's current stream.

python layer.py              on device 0, with a pruned linear layer of 1024 x 1024
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tesa


class Pruned(torch.nn.Module):
    """A linear layer whose zeros cost nothing. x: (features in, columns), y: (features out, columns)."""

    def __init__(self, weight: NDArray[np.float32], bias: NDArray[np.float32], columns: int, target: str) -> None:
        super().__init__()
        self.kernel = tesa.kernel(weight, n=columns, bias=bias, epilogue="bias+relu", target=target)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.kernel(x.contiguous())
        return found


def main() -> int:
    """Compare the layer with torch's own, and time both."""
    if not torch.cuda.is_available():
        print("this program needs a GPU that torch can use", file=sys.stderr)
        return 1
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((1024, 1024), np.float32)
    weight[rng.random(weight.shape) < 0.9] = 0
    bias = rng.standard_normal(1024, np.float32)
    major, minor = torch.cuda.get_device_capability()
    target = "rocm" if torch.version.hip else f"cuda:sm_{major}{minor}"
    layer: Any = Pruned(weight, bias, 1024, target)
    x = torch.randn(1024, 1024, device="cuda")
    dense, offset = torch.from_numpy(weight).cuda(), torch.from_numpy(bias).cuda()[:, None]
    expected = torch.relu(dense @ x + offset)
    print(f"largest difference {float((layer(x) - expected).abs().max()):.2g}")
    for name, call in (("tesa", lambda: layer(x)), ("torch", lambda: torch.relu(dense @ x + offset))):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        for _ in range(10):
            call()
        begin.record()
        for _ in range(100):
            call()
        end.record()
        torch.cuda.synchronize()
        print(f"{name}: {begin.elapsed_time(end) / 100 * 1e3:.1f} us a call")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
