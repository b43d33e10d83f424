"""The digits network on 32x32 pixels, dense and pruned gradually to 90 %, one pair for each seed, kept in a folder.

    python -m benchmarks.digits_networks --seeds 0 1 2 -o work/digits

Trained by what benchmarks.train_digits trains with: 16 dense epochs, then 20 in which the smallest weights of the 1x1
convolutions go (cubic over the first half) with batch norms live, the best epoch by the training loss kept.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F

from benchmarks import train_digits as digits
from tesa.models import preprocess_digits

SIZE, DENSE_EPOCHS, GRADUAL_EPOCHS = 32, 16, 20


def images(scans: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The scans (n, 8, 8) as the network reads them: float32 (n, 1, 32, 32)."""
    large = torch.from_numpy(preprocess_digits(scans))
    return F.avg_pool2d(large, 2).numpy()


def export(net: Any) -> Any:
    """The network as ONNX with an open batch, nodes and values named after the layers. Its batch norms are folded."""
    digits.fold_norms(net)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        torch.onnx.export(
            net, (torch.zeros(1, 1, SIZE, SIZE),), path, input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}}, opset_version=17, dynamo=False,
        )  # fmt: skip
        model = onnx.load(path)
    digits.tidy(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def gradual(done: float) -> float:
    """The share of zeros after that part of the training: cubic over its first half."""
    return 0.9 * (1 - (1 - min(2 * done, 1.0)) ** 3)


def make(seed: int, folder: Path) -> None:
    """Train and write <seed>_dense.onnx and <seed>_gradual90.onnx, if they are not there."""
    if (folder / f"{seed}_gradual90.onnx").exists():
        return
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    scans, _, labels, _ = digits.split_data()
    data = torch.from_numpy(images(scans)), torch.from_numpy(labels)
    net = digits.make_net()
    digits.train(net, data, DENSE_EPOCHS, 4e-3, lambda _: 0.0)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    onnx.save(export(net), folder / f"{seed}_dense.onnx")
    net = digits.make_net()
    net.load_state_dict(state)
    digits.train(net, data, GRADUAL_EPOCHS, 2e-3, gradual)
    onnx.save(export(net), folder / f"{seed}_gradual90.onnx")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the digits network on 32x32 pixels, dense and at 90 %.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder for the networks")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        make(seed, arguments.output)


if __name__ == "__main__":
    main()
