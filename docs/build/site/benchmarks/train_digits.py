"""Train the digits model that ships with tesa: a MobileNet-v1-style network with 90 % sparse 1x1 convolutions.

    python -m benchmarks.train_digits --seed 0 -o tesa/models/digits.onnx

Needs torch, onnx, onnxruntime and scikit-learn, and some minutes on two CPU cores. The data are the 8x8 scans of
scikit-learn's `load_digits`, upscaled to 64x64. The network is trained dense, then the smallest weights of each 1x1
convolution are removed step by step while training goes on, then the remaining weights are trained once more.

Next to the model it writes `<model>_test.npz`, the held-out images and their labels. It prints the accuracy before
and after pruning and the sparsity of each layer.
"""

import argparse
import tempfile
from collections.abc import Callable
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

Data = tuple[Tensor, Tensor]  # images float32 [n, 1, 64, 64] and labels int64 [n]


def convolution(cin: int, cout: int, size: int, stride: int, groups: int) -> nn.Conv2d:
    """A convolution that keeps the size of the image but for the stride. The norm after it brings the bias."""
    return nn.Conv2d(cin, cout, size, stride, padding=size // 2, groups=groups, bias=False)


def make_block(cin: int, cout: int, stride: int) -> nn.Sequential:
    """A depthwise 3x3 and a 1x1 convolution, each with ReLU6: [n, cin, h, w] -> [n, cout, h/stride, w/stride]."""
    block = nn.Sequential()
    block.add_module("depthwise", convolution(cin, cin, 3, stride, groups=cin))
    block.add_module("depthwise_norm", nn.BatchNorm2d(cin))
    block.add_module("depthwise_relu6", nn.ReLU6())
    block.add_module("pointwise", convolution(cin, cout, 1, 1, groups=1))
    block.add_module("pointwise_norm", nn.BatchNorm2d(cout))
    block.add_module("pointwise_relu6", nn.ReLU6())
    return block


def make_net() -> nn.Sequential:
    """The network with random weights: image [n, 1, 64, 64] -> logits [n, 10]."""
    net = nn.Sequential()
    net.add_module("stem", convolution(1, 32, 3, 2, groups=1))
    net.add_module("stem_norm", nn.BatchNorm2d(32))
    net.add_module("stem_relu6", nn.ReLU6())
    channels = 32
    for number, (cout, stride) in enumerate(BLOCKS, start=1):
        net.add_module(f"block{number}", make_block(channels, cout, stride))
        channels = cout
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("classifier", nn.Linear(channels, 10))
    return net


def pruned_weights(net: nn.Sequential) -> list[Tensor]:
    """The weights of the 1x1 convolutions, the ones that are pruned."""
    return [weight for name, weight in net.named_parameters() if name.endswith(".pointwise.weight")]


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


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """A mask that is 0 at the round(sparsity * size) smallest elements of the weight, else 1."""
    order = weight.detach().abs().flatten().argsort(stable=True)
    mask = torch.ones(weight.numel())
    mask[order[: round(sparsity * weight.numel())]] = 0
    return mask.view_as(weight)


def train(net: nn.Sequential, data: Data, epochs: int, peak: float, sparsity_at: Callable[[float], float]) -> None:
    """Train in place with a one-cycle learning rate.

    `sparsity_at(progress)` gives the sparsity to reach at each epoch, progress going from 0 to 1. The masks only
    ever grow: a weight that is zero has the smallest magnitude there is.
    """
    images, labels = data
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=1e-3)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.2)
    net.train()
    for epoch in range(epochs):
        masks = [magnitude_mask(weight, sparsity_at((epoch + 1) / epochs)) for weight in pruned_weights(net)]
        total = 0.0
        for index in torch.split(torch.randperm(len(images)), BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(augment(images[index])), labels[index], label_smoothing=0.05)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            for weight, mask in zip(pruned_weights(net), masks, strict=True):
                weight.detach().mul_(mask)  # the optimizer has no notion of a weight that stays zero
            total += loss.item() * len(index)
        print(f"  epoch {epoch + 1}/{epochs}: loss {total / len(images):.4f}")


def accuracy(net: nn.Sequential, data: Data) -> float:
    """The share of the images that the network gets right."""
    net.eval()
    with torch.no_grad():
        return float(np.mean((net(data[0]).argmax(1) == data[1]).numpy()))


def fold_norms(net: nn.Sequential) -> None:
    """Fold each batch norm into the convolution before it. A zero weight stays zero: folding only scales it."""
    net.eval()
    for parent in list(net.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                layer = parent.get_submodule(name.removesuffix("_norm"))
                assert isinstance(layer, nn.Conv2d)
                setattr(parent, name.removesuffix("_norm"), fuse_conv_bn_eval(layer, norm))
                setattr(parent, name, nn.Identity())


def export(net: nn.Sequential) -> onnx.ModelProto:
    """The network as ONNX opset 17, with nodes and values named after the layers."""
    fold_norms(net)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        image = torch.zeros(1, 1, 64, 64)
        torch.onnx.export(
            net, (image,), path, input_names=["image"], output_names=["logits"], opset_version=17, dynamo=False
        )
        model = onnx.load(path)
    tidy(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def tidy(graph: onnx.GraphProto) -> None:
    """Name nodes and values after their layers, and keep the bounds of ReLU6 once, as initializers."""
    bounds = [onnx.numpy_helper.from_array(np.array(bound, np.float32), f"relu6.{name}") for name, bound in BOUNDS]
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


def print_sparsity(graph: onnx.GraphProto) -> None:
    """Print the share of zeros in each weight."""
    for tensor in graph.initializer:
        if tensor.name.endswith(".weight"):
            print(f"{tensor.name:28} {np.mean(onnx.numpy_helper.to_array(tensor) == 0):8.4%} zero")


def train_pruned(seed: int) -> tuple[nn.Sequential, float, float]:
    """The trained and pruned network, and its accuracies on the held-out images: dense and pruned."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)  # the order of the sums, and so the last bits, depend on the number of threads
    train8, test8, train_labels, test_labels = split_data()
    data = torch.from_numpy(preprocess_digits(train8)), torch.from_numpy(train_labels)
    held_out = torch.from_numpy(preprocess_digits(test8)), torch.from_numpy(test_labels)
    net = make_net()
    print("dense")
    train(net, data, epochs=DENSE_EPOCHS, peak=4e-3, sparsity_at=lambda _: 0.0)
    dense = accuracy(net, held_out)
    print("pruning")  # fast at first, slow at the end, where each further weight costs more
    train(net, data, epochs=PRUNE_EPOCHS, peak=2e-3, sparsity_at=lambda done: SPARSITY * (1 - (1 - done) ** 3))
    print("pruned")
    train(net, data, epochs=FINAL_EPOCHS, peak=2e-3, sparsity_at=lambda _: SPARSITY)
    return net, dense, accuracy(net, held_out)


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
    print_sparsity(model.graph)
    print(f"held-out accuracy: dense {dense:.4f}, pruned {pruned:.4f}")
    command = f"python -m benchmarks.train_digits --seed {arguments.seed}"
    properties = {"producer": "tesa", "seed": str(arguments.seed), "accuracy": f"{pruned:.4f}", "command": command}
    onnx.helper.set_model_props(model, properties)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, arguments.output)
    np.savez_compressed(arguments.output.with_name(f"{arguments.output.stem}_test.npz"), images8=test8, labels=labels)


if __name__ == "__main__":
    main()
