"""Train the digits model that ships with tesa: a MobileNet-v1-style network with 90 % sparse 1x1 convolutions.

    python -m benchmarks.train_digits --seed 0 -o tesa/models/digits.onnx

Needs torch, onnx, onnxruntime and scikit-learn, and some minutes on two CPU cores. The data are the 8x8 scans of
scikit-learn's `load_digits`, upscaled to 64x64. The network is trained dense, then the smallest weights of each 1x1
convolution are removed step by step while training goes on, then the remaining weights are trained once more.

Next to the model it writes `<model>_test.npz`, the held-out images and their labels. It prints the accuracy before
and after pruning and the sparsity of each layer.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tesa.models import preprocess_digits

SPARSITY = 0.9
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2)] + [(256, 1)] * 5  # (channels out, stride) of each block
DENSE_EPOCHS, PRUNE_EPOCHS, FINAL_EPOCHS = 24, 20, 24
BATCH = 48
BOUNDS = [("min", 0.0), ("max", 6.0)]  # of ReLU6

Masks = dict[str, Tensor]


class Block(nn.Module):
    """A depthwise 3x3 and a 1x1 convolution, each with ReLU6: [n, cin, h, w] -> [n, cout, h/stride, w/stride]."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(cin, cin, 3, stride, padding=1, groups=cin, bias=False)
        self.depthwise_norm: nn.Module = nn.BatchNorm2d(cin)
        self.pointwise = nn.Conv2d(cin, cout, 1, bias=False)
        self.pointwise_norm: nn.Module = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        x = F.relu6(self.depthwise_norm(self.depthwise(x)))
        return F.relu6(self.pointwise_norm(self.pointwise(x)))


class DigitsNet(nn.Module):
    """image [n, 1, 64, 64] -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, stride=2, padding=1, bias=False)
        self.stem_norm: nn.Module = nn.BatchNorm2d(32)
        channels = 32
        for number, (cout, stride) in enumerate(BLOCKS, start=1):
            self.add_module(f"block{number}", Block(channels, cout, stride))
            channels = cout
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network."""
        x = F.relu6(self.stem_norm(self.stem(x)))
        for number in range(1, len(BLOCKS) + 1):
            x = self.get_submodule(f"block{number}")(x)
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits

    def pointwise_weights(self) -> dict[str, nn.Parameter]:
        """The weights that are pruned, by name."""
        return {name: weight for name, weight in self.named_parameters() if name.endswith(".pointwise.weight")}


def split_data() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Train images, held-out images (both uint8 [n, 8, 8]), train labels, held-out labels (both int64 [n])."""
    digits = load_digits()
    train, test, train_labels, test_labels = train_test_split(
        digits.images.astype(np.uint8), digits.target, test_size=360, random_state=0, stratify=digits.target
    )
    return train, test, train_labels.astype(np.int64), test_labels.astype(np.int64)


def augment(images: Tensor) -> Tensor:
    """Turn by up to 12 degrees, scale by up to 10 % and shift by up to 5 pixels each image, at random."""
    n = len(images)
    angle = (torch.rand(n) * 2 - 1) * np.deg2rad(12)
    scale = 1 + (torch.rand(n) * 2 - 1) * 0.1
    shift = (torch.rand(n, 2) * 2 - 1) * 5 / 32  # the grid runs from -1 to 1 over 64 pixels
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented batches, in random order."""
    for index in torch.randperm(len(images)).split(BATCH):
        yield augment(images[index]), labels[index]


def magnitude_masks(net: DigitsNet, sparsity: float) -> Masks:
    """For each pruned weight a mask that is 0 at its round(sparsity * size) smallest elements, else 1."""
    masks = {}
    for name, weight in net.pointwise_weights().items():
        order = weight.detach().abs().flatten().argsort(stable=True)
        mask = torch.ones(weight.numel())
        mask[order[: round(sparsity * weight.numel())]] = 0
        masks[name] = mask.view_as(weight)
    return masks


def apply_masks(net: DigitsNet, masks: Masks) -> None:
    """Set the masked weights to zero."""
    weights = net.pointwise_weights()
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(mask)


def train(
    net: DigitsNet,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    peak: float,
    sparsity_at: Callable[[float], float] | None = None,
) -> None:
    """Train in place with a one-cycle learning rate.

    `sparsity_at(progress)` gives the sparsity to reach at each epoch, progress going from 0 to 1. The masks only
    ever grow: a weight that is zero has the smallest magnitude there is. Without it nothing is pruned.
    """
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=1e-3)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.2)
    masks: Masks = {}
    net.train()
    for epoch in range(epochs):
        start = time.perf_counter()
        if sparsity_at is not None:
            masks = magnitude_masks(net, sparsity_at((epoch + 1) / epochs))
            apply_masks(net, masks)
        total = 0.0
        for batch, target in batches(images, labels):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(batch), target, label_smoothing=0.05)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            apply_masks(net, masks)  # the optimizer has no notion of a weight that stays zero
            total += loss.item() * len(target)
        print(f"  epoch {epoch + 1}/{epochs}: loss {total / len(images):.4f}, {time.perf_counter() - start:.1f} s")


def accuracy(net: DigitsNet, images: Tensor, labels: Tensor) -> float:
    """The share of the images that the network gets right."""
    net.eval()
    with torch.no_grad():
        return float(np.mean((net(images).argmax(1) == labels).numpy()))


def fold_norms(net: DigitsNet) -> None:
    """Fold each batch norm into the convolution before it. A zero weight stays zero: folding only scales it."""
    net.eval()
    for parent in list(net.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                convolution = parent.get_submodule(name.removesuffix("_norm"))
                assert isinstance(convolution, nn.Conv2d)
                setattr(parent, name.removesuffix("_norm"), fuse_conv_bn_eval(convolution, norm))
                setattr(parent, name, nn.Identity())


def export(net: DigitsNet) -> onnx.ModelProto:
    """The network as ONNX opset 17, with nodes and values named after the layers."""
    fold_norms(net)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        names = {"input_names": ["image"], "output_names": ["logits"]}
        torch.onnx.export(net, (torch.zeros(1, 1, 64, 64),), path, opset_version=17, dynamo=False, **names)
        model = onnx.load(path)
    tidy(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def tidy(graph: onnx.GraphProto) -> None:
    """Name nodes and values after their layers, and keep the bounds of ReLU6 once, as initializers."""
    bounds = [onnx.numpy_helper.from_array(np.float32(bound), f"relu6.{name}") for name, bound in BOUNDS]
    graph.initializer.extend(bounds)
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    renamed: dict[str, str] = {}
    layer = ""
    for node in nodes:
        if node.op_type in ("Conv", "Gemm"):
            layer = node.name = node.input[1].removesuffix(".weight")
        elif node.op_type == "Clip":
            node.name = f"{layer}.relu6"
            node.input[1:] = [bound.name for bound in bounds]
        else:
            node.name = {"GlobalAveragePool": "pool", "Flatten": "flatten"}[node.op_type]
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.output[0] != "logits":
            renamed[node.output[0]] = f"{node.name}.output"
            node.output[0] = f"{node.name}.output"
    del graph.node[:]
    graph.node.extend(nodes)


def onnx_accuracy(model: onnx.ModelProto, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The share of the images that the exported model gets right."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    guesses = [session.run(None, {"image": image[None]})[0].argmax() for image in images]
    return float(np.mean(np.array(guesses) == labels))


def layer_sparsities(model: onnx.ModelProto) -> dict[str, float]:
    """The share of zeros in each weight."""
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer if w.name.endswith(".weight")}
    return {name: float(np.mean(weight == 0)) for name, weight in weights.items()}


def write(path: Path, save: Callable[[Path], None]) -> None:
    """Write a file under a temporary name first, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    save(partial)
    os.replace(partial, path)


def train_pruned(seed: int) -> tuple[DigitsNet, float, float]:
    """The trained and pruned network, and its accuracies on the held-out images: dense and pruned."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)  # the order of the sums, and so the last bits, depend on the number of threads
    train8, test8, train_labels, test_labels = split_data()
    data = torch.from_numpy(preprocess_digits(train8)), torch.from_numpy(train_labels)
    held_out = torch.from_numpy(preprocess_digits(test8)), torch.from_numpy(test_labels)
    net = DigitsNet()
    print("dense")
    train(net, *data, epochs=DENSE_EPOCHS, peak=4e-3)
    dense = accuracy(net, *held_out)
    print("pruning")  # fast at first, slow at the end, where each further weight costs more
    train(net, *data, epochs=PRUNE_EPOCHS, peak=2e-3, sparsity_at=lambda done: SPARSITY * (1 - (1 - done) ** 3))
    print("pruned")
    train(net, *data, epochs=FINAL_EPOCHS, peak=2e-3, sparsity_at=lambda _: SPARSITY)
    return net, dense, accuracy(net, *held_out)


def main() -> None:
    """Read the command line, train, export, check and write."""
    parser = argparse.ArgumentParser(description="Train the digits model that ships with tesa.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to write the ONNX model")
    arguments = parser.parse_args()
    net, dense, pruned = train_pruned(arguments.seed)
    model = export(net)
    _, test8, _, labels = split_data()
    exported = onnx_accuracy(model, preprocess_digits(test8), labels)
    if exported != pruned:
        raise SystemExit(f"the exported model has accuracy {exported:.4f}, the trained one {pruned:.4f}")
    for name, sparsity in layer_sparsities(model).items():
        print(f"{name:28} {sparsity:8.4%} zero")
    print(f"held-out accuracy: dense {dense:.4f}, pruned {pruned:.4f}")
    properties = {
        "producer": "tesa",
        "command": f"python -m benchmarks.train_digits --seed {arguments.seed}",
        "seed": str(arguments.seed),
        "accuracy": f"{pruned:.4f}",
    }
    onnx.helper.set_model_props(model, properties)
    write(arguments.output, lambda path: onnx.save(model, path))
    held_out = {"images8": test8, "labels": labels}
    target = arguments.output.with_name(f"{arguments.output.stem}_test.npz")
    write(target, lambda path: np.savez_compressed(path, allow_pickle=False, **held_out))


if __name__ == "__main__":
    main()
