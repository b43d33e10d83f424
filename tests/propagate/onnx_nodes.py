"""The ONNX project's own node tests as networks with facts: inputs pruned, made constant or known, outputs masked."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

from tesa.attributes.attribute import Origin, TeSA, unknown
from tesa.errors import TesaError
from tesa.frontend import import_onnx
from tesa.frontend.names import identifier
from tesa.propagate import propagate
from tesa.propagate.network import Network

from .execute import execute
from .law import DataDependentShapeError, check_law, is_float, run

# A 0 as their second operand is an error of the model, or one of a square root or logarithm that follows.
NO_ZEROS = {"Div", "Mod", "Pow", "Log", "Range", "QuantizeLinear", "DequantizeLinear", "Resize", "Reciprocal", "Acosh"}
# The values of these choose elements: replaced by others they might lie outside of the tensor.
INDEXING = ("gather", "scatter", "take", "one_hot", "index", "dynamic", "call_tir", "vision", "image", "arange")

# Short floats that TVM computes with as if they had another exponent or a zero; its constants would not be theirs.
MISCAST = ("fnuz", "e8m0")

KINDS = ("plain", "constants", "some")


@dataclass(frozen=True)
class Variant:
    """A model made from a node test, and what to feed it. kinds: "plain", "constants", "some"."""

    model: onnx.ModelProto
    feeds: dict[str, Any]


@cache
def cases() -> dict[str, Any]:
    """All node tests by name. The test data of a few need packages that nobody else does; onnx leaves them out."""
    return {case.name: case for case in sorted(load_model_tests(kind="node"), key=lambda case: str(case.name))}


def operator_of(name: str) -> str:
    """The ONNX operators of a node test."""
    return "+".join(dict.fromkeys(node.op_type for node in cases()[name].model.graph.node))


def plain(name: str) -> Variant:
    """The test as it is."""
    case = cases()[name]
    return Variant(case.model, _feeds(case))


def _feeds(case: Any) -> dict[str, Any]:
    arrays = case.data_sets[0][0]
    names = [value.name for value in case.model.graph.input]
    return {name: _array(array) for name, array in zip(names, arrays, strict=False) if _is_tensor(array)}


def expected(name: str) -> list[Any]:
    """The results that the test wants."""
    return [_array(array) for array in cases()[name].data_sets[0][1] if _is_tensor(array)]


def _is_tensor(value: Any) -> bool:
    """Not a sequence, nor an optional value."""
    return isinstance(value, onnx.TensorProto | np.ndarray | np.generic | int | float)


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def variant(name: str, seed: int, kind: str) -> Variant:
    """With inputs turned into initializers ("constants": all but one, "some": about half), pruned; outputs masked."""
    rng = np.random.default_rng(seed)
    case = cases()[name]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    feeds = _feeds(case)
    zeros = not any(node.op_type in NO_ZEROS for node in model.graph.node)
    first = next((n for n, a in feeds.items() if a.dtype.kind == "f"), next(iter(feeds), None))
    for value in list(model.graph.input):
        if value.name == first or value.name not in feeds or (kind == "some" and rng.random() < 0.5):
            continue
        array = feeds.pop(value.name)
        array = pruned(rng, array) if zeros else array
        model.graph.input.remove(value)
        model.graph.initializer.append(numpy_helper.from_array(array, value.name))
    _mask_outputs(model, rng, expected(name))
    return Variant(model, feeds)


def pruned(rng: np.random.Generator, array: Any) -> Any:
    """Floats and short integers with slices along an axis and single elements set to 0; other arrays as they are."""
    if (array.dtype.kind != "f" and array.dtype.itemsize > 1) or array.dtype == bool or array.size < 2:
        return array
    return np.where(_pattern(rng, array.shape), array, array.dtype.type(0)).astype(array.dtype)


def _pattern(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """True where an element stays."""
    keep = np.ones(shape, bool)
    for axis, length in enumerate(shape):
        if length > 1 and rng.random() < 0.5:
            along = rng.random(length) < 0.6
            keep = keep & along.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return keep & (rng.random(shape) < rng.choice([1.0, 0.8]))


def _mask_outputs(model: Any, rng: np.random.Generator, results: list[Any]) -> None:
    """Multiply numeric outputs by masks: where those are 0, the output of the node is dead."""
    graph = model.graph
    for i, value in enumerate(list(graph.output)):
        elem = value.type.tensor_type.elem_type
        usable = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT16}
        if elem not in usable or i >= len(results) or rng.random() < 0.2 or results[i].size == 0:
            continue
        mask = _pattern(rng, results[i].shape).astype(helper.tensor_dtype_to_np_dtype(elem))
        old, new = value.name, f"masked_{i}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(mask), f"mask_{i}"))
        graph.node.append(helper.make_node("Mul", [old, f"mask_{i}"], [new], f"mask_node_{i}"))
        value.name = new


def given_facts(rng: np.random.Generator, net: Network, feeds: dict[str, Any]) -> dict[str, TeSA]:
    """Random facts about the inputs: some elements known. Floats are 0 there, or what they are: feeds is changed."""
    facts = {}
    for name, array in feeds.items():
        if name not in net.shapes or array.size == 0 or rng.random() < 0.2:
            continue
        known = ~_pattern(rng, array.shape)
        if array.dtype.kind == "f" and rng.random() < 0.7:
            array = feeds[name] = np.where(known, array.dtype.type(0), array)
        if is_float(array) and not np.isfinite(array[known].astype(float)).all():
            continue  # no one knows a NaN
        origin = frozenset({Origin("value", "user")})
        top = unknown(array.shape)
        facts[name] = TeSA(array.shape, known, np.where(known, array, 0), top.live, top.bits, None, origin)
    return facts


def shuffled(rng: np.random.Generator, feeds: dict[str, Any], facts: dict[str, TeSA]) -> dict[str, Any]:
    """Other values for the floats that are not known: the same numbers in other places, so that all stay in range."""
    result = {}
    for name, array in feeds.items():
        if array.dtype.kind == "f":
            free = np.ones(array.shape, bool) if name not in facts else np.broadcast_to(~facts[name].known, array.shape)
            array = array.copy()
            array[free] = rng.permutation(array[free])
        result[name] = array
    return result


def tolerance(net: Network) -> float:
    """By the shortest floating-point type in the network."""
    dtypes = {dtype for node in net.nodes for dtype in node.operator.dtypes}
    if any("bfloat16" in d or "float8" in d or "float4" in d for d in dtypes):
        return 0.1
    return 0.02 if "float16" in dtypes else 1e-4


def indexed(net: Network) -> bool:
    """Whether integers of this network may be places of elements."""
    return any(part in node.operator.op for node in net.nodes for part in INDEXING)


@cache
def judge(name: str, kind: str) -> str:
    """ "ok", or what is wrong: "import: ...", "run: ..." (TVM cannot), "numbers: ...", "propagate: ...", "law: ..."."""
    seed = zlib.crc32(f"{name}:{kind}".encode())
    try:
        made = plain(name) if kind == "plain" else variant(name, seed, kind)
        imported = import_onnx(made.model)
    except TesaError as error:
        return f"import: {error}"
    except Exception as error:  # TVM's importer may fail in any way
        return f"import: {type(error).__name__}: {error}"
    try:
        net = propagate(imported).network
    except Exception as error:
        return f"propagate: {type(error).__name__}: {error}"
    strange = sorted({t for t in _types(net, made.feeds) if any(part in t for part in MISCAST)})
    if strange:
        return f"run: TVM rounds to {', '.join(strange)} wrongly"
    feeds = {identifier(key): array for key, array in made.feeds.items()}

    def evaluate(node: Any, args: Any) -> Any:
        return execute(node, args, imported.mod)

    try:
        values = run(net, feeds, evaluate)
    except Exception as error:  # so may its compiler
        return f"run: {type(error).__name__}: {str(error).strip()[-200:]}"
    if kind != "plain" and judge(name, "plain").startswith("numbers"):
        return "numbers: of the plain test are wrong already, so TVM is no judge"
    wrong = _numbers(name, [values[o] for o in net.outputs], tolerance(net)) if kind == "plain" else ""
    return wrong or _judge_facts(imported, net, feeds, evaluate, seed)


def _types(net: Network, feeds: dict[str, Any]) -> set[str]:
    return {dtype for node in net.nodes for dtype in node.operator.dtypes} | {str(a.dtype) for a in feeds.values()}


def _numbers(name: str, found: list[Any], relative: float) -> str:
    case, wanted = cases()[name], expected(name)
    if len(found) != len(wanted):
        return f"numbers: {len(wanted)} outputs are expected, the import has {len(found)}"
    bounds = {"rtol": max(case.rtol, 1e-3, relative), "atol": max(case.atol, 1e-5, relative / 10)}
    for have, want in zip(found, wanted, strict=True):
        try:
            np.testing.assert_allclose(have.astype(float), want.astype(float), **bounds)
        except (AssertionError, ValueError) as error:
            return "numbers: " + " ".join(str(error).split())[:160]
    return ""


def _judge_facts(imported: Any, net: Network, feeds: dict[str, Any], evaluate: Any, seed: int) -> str:
    rng = np.random.default_rng(seed)
    given = given_facts(rng, net, feeds)
    try:
        found = propagate(imported, given=given)
    except Exception as error:
        return f"propagate: {type(error).__name__}: {error}"
    for trial in range(3):
        fed = shuffled(rng, feeds, given) if trial else feeds
        try:
            check_law(net, found.tesa, fed, evaluate, seed + trial, tolerance(net), indexed(net))
        except DataDependentShapeError as error:
            return f"run: {error}"
        except AssertionError as error:
            operators = ", ".join(node.operator.op for node in net.nodes)
            return f"law: {operators}: {error}"
    return "ok"
