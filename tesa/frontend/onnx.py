"""import_onnx reads an ONNX model as a Relax module: the one way into the compiler."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tesa.attributes.attribute import Quantization
from tesa.attributes.denormals import flushed
from tesa.base.keywords import helpful
from tesa.errors import UnsupportedError
from tesa.frontend import raises, rewrite  # noqa: F401  (importing raises registers what is in it)
from tesa.frontend.blocked import unblock
from tesa.frontend.cells import cell_parts
from tesa.frontend.checks import check_operators
from tesa.frontend.control.bodies import is_control
from tesa.frontend.control.resolve import resolve
from tesa.frontend.control.typed import body_graph
from tesa.frontend.empty import fold_empty
from tesa.frontend.expand import check_expanded, expand
from tesa.frontend.expressions import constant_value, static_shape
from tesa.frontend.gelu import fuse_gelu
from tesa.frontend.given import note_given
from tesa.frontend.graph import Graph, attributes
from tesa.frontend.guard import guarded
from tesa.frontend.half import widen_halves
from tesa.frontend.importer import to_relax
from tesa.frontend.infer import infer_types
from tesa.frontend.integer import to_qdq
from tesa.frontend.lift import lift
from tesa.frontend.load import load_graph
from tesa.frontend.masks import apply_masks, load_masks
from tesa.frontend.model import ImportedModel, Port, WeightUse
from tesa.frontend.names import Unique
from tesa.frontend.parameters import open_parameter
from tesa.frontend.qdq import widen_codes
from tesa.frontend.quantized import integer_quantization
from tesa.frontend.rename import name_bindings
from tesa.frontend.simplify import simplify
from tesa.frontend.windows import plain_windows

WEIGHT_CALLS = ("relax.matmul", *(f"relax.nn.conv{n}d{kind}" for n in (1, 2, 3) for kind in ("", "_transpose")))
PRODUCTS = {*rewrite.WEIGHT_OPS, "ConvInteger", "MatMulInteger", "Einsum"}


@helpful("tesa.import_onnx")
def import_onnx(
    model: str | Path | Any,
    *,
    shapes: Mapping[str, Any] | None = None,
    masks: str | Path | Mapping[str, Any] | None = None,
    flush_denormals: bool = False,
) -> ImportedModel:
    """Read an ONNX model as a Relax module with static shapes.

    model: a path, or an onnx.ModelProto (left as it is). shapes: the sizes of inputs whose sizes the file leaves open.
    masks: pruning masks by weight or layer, or the .npz file of them; they are multiplied into the weights.
    flush_denormals: weights too small for a float32 with a leading one, 1.2e-38, become zeros. Sparse initializers
    become dense, quantized weights real numbers whose quantization is remembered, 16-bit reals float32 behind the
    inputs and before the outputs, Clip becomes relax.clip, erf-GELU relax.nn.gelu, and a batch norm behind a
    convolution disappears into it.

    ModelError if the file is at fault, UsageError if the call is, UnsupportedError if tesa cannot import an operator.

    >>> from importlib.resources import files
    >>> import_onnx(str(files("tesa.models") / "digits.onnx")).inputs
    (Port(name='image', shape=(1, 1, 64, 64), dtype='float32'),)
    """
    graph = load_graph(model, shapes)
    with guarded(graph.source):
        return _imported(graph, masks, flush_denormals)


def _imported(graph: Graph, masks: str | Path | Mapping[str, Any] | None, flush_denormals: bool) -> ImportedModel:
    if resolve(graph):
        check_operators(graph, inside=True)
    lift(graph)
    widen_halves(graph)
    if flush_denormals:
        _flush(graph)
    unblock(graph)
    note_given(graph.given, graph.nodes, graph.constants)
    to_qdq(graph)
    rewrite.name_layers(graph)
    rewrite.note_unused(graph)
    if masks is not None:
        apply_masks(graph, load_masks(masks) if isinstance(masks, str | Path) else masks)
        graph.given.constants |= {name: graph.constants[name] for name in graph.masks}
    cells = cell_parts(graph)
    plain(graph)
    mod, layers, tensors = to_relax(graph)
    mod = simplify(mod, graph.source)
    mod, names, old = name_bindings(mod, layers, _last_layer(graph))
    _check_static(graph, mod, names)
    weights, quantization = _trace_weights(graph.whole(), mod, names)
    tensors = {name: tensors[before] for name, before in old.items() if before in tensors}
    if len(graph.outputs) == 1 and bindings(mod):  # there is none where the output is an input or a constant
        tensors[bindings(mod)[-1].var.name] = graph.outputs[0].name
    return ImportedModel(
        mod, _inputs(graph, mod), _outputs(graph, mod), names, weights, tensors, graph.masks, quantization,
        graph.source, graph, graph.dropped, graph.unused, cells,
    )  # fmt: skip


def _flush(graph: Graph) -> None:
    cleared = {name: flushed(array) for name, array in graph.constants.items()}
    graph.given.flushed = any(cleared[name] is not array for name, array in graph.constants.items())
    graph.constants = cleared


def _last_layer(graph: Graph) -> str:
    """The layer that computes the one output. An Identity or Dropout that only gives it a name computes nothing."""
    if len(graph.outputs) != 1:
        return "outputs"
    makers = {name: node for node in graph.nodes for name in node.output}
    tensor = graph.outputs[0].name
    while tensor in makers and makers[tensor].op_type in ("Identity", "Dropout") and makers[tensor].input[0] in makers:
        tensor = makers[tensor].input[0]
    return graph.layers.get(tensor, "outputs")


def plain(graph: Graph, taken: Iterable[str] = ()) -> None:
    """Make all of the graph, and of the bodies of loops that stay, operators that have a converter, in place.

    taken: the layers of the graphs around it.
    """
    rewrite.drop_identities(graph)
    plain_windows(graph)
    rewrite.fold_constants(graph)
    while expand(graph) or resolve_late(graph):
        rewrite.drop_identities(graph)
        plain_windows(graph)
        rewrite.fold_constants(graph)
    rewrite.drop_unused(graph)
    check_expanded(graph)
    fold_empty(graph)
    rewrite.fold_batch_norms(graph)
    fuse_gelu(graph)
    widen_codes(graph)
    rewrite.drop_unused(graph)
    _add_bodies(graph, taken)


def _add_bodies(graph: Graph, taken: Iterable[str]) -> None:
    """Make a graph of its own of the body of each loop that stays. No layer in it has the name of one around it."""
    unique = Unique({*taken, *graph.layers.values()})
    loops = [node for node in graph.nodes if is_control(node)]
    shapes, dtypes = infer_types(graph) if loops else ({}, {})
    for node in loops:
        body = body_graph(graph, node, shapes, dtypes)
        if body is None:
            raise UnsupportedError(
                f"{graph.source}: node {graph.layers[node.output[0]]!r}: the shapes of what the loop reads are not "
                "known before the model runs; tesa compiles for fixed sizes. Export it with fixed sizes"
            )
        to_qdq(body)
        around = graph.layers[node.output[0]]
        rewrite.name_layers(body, around)
        names = {name: name if name == around else unique(name) for name in dict.fromkeys(body.layers.values())}
        body.layers = {tensor: names[name] for tensor, name in body.layers.items()}
        plain(body, unique.taken)
        unique.taken |= set(body.whole().layers.values())
        graph.bodies[node.output[0]] = body


def resolve_late(graph: Graph) -> bool:
    """Resolve branches and loops that were not decided before or that an expansion has made. True if there were any."""
    if not (resolve(graph) or resolve(graph, last=True)):
        return False
    to_qdq(graph)
    rewrite.name_new_layers(graph)
    return True


def bindings(mod: Any) -> list[Any]:
    """The bindings of main in order."""
    return [binding for block in mod["main"].body.blocks for binding in block.bindings]


def _all_bindings(mod: Any) -> list[Any]:
    """The bindings of all functions: of main first, then of loops."""
    loops = [f for v, f in mod.functions_items() if isinstance(f, relax.Function) and v.name_hint != "main"]
    return bindings(mod) + [binding for f in loops for block in f.body.blocks for binding in block.bindings]


def _check_static(graph: Graph, mod: Any, names: Mapping[str, str]) -> None:
    for binding in _all_bindings(mod):
        ty, where = binding.var.ty, f"{graph.source}: node {names.get(binding.var.name, binding.var.name)!r}"
        for field in ty.fields if isinstance(ty, relax.TupleType) else [ty]:
            if not isinstance(field, relax.TensorType):
                continue
            if field.shape is None or not all(isinstance(n, tvm.tirx.IntImm) for n in field.shape):
                layer = names.get(binding.var.name)
                missing = open_parameter(graph, (n for n in graph.nodes if graph.layers[n.output[0]] == layer))
                raise UnsupportedError(
                    f"{where}: the shape of its result depends on data"
                    f"{': ' + missing if missing else '; tesa compiles for fixed sizes. Export it with fixed sizes'}"
                )
            if any(int(n) == 0 for n in field.shape):
                raise UnsupportedError(
                    f"{where}: its result of shape {[int(n) for n in field.shape]} has no elements; tensors without "
                    "elements are not supported. Check the sizes of the slices that lead to it"
                )


def _inputs(graph: Graph, mod: Any) -> tuple[Port, ...]:
    pairs = zip(graph.inputs, mod["main"].params, strict=True)
    return tuple(Port(value.name, tuple(static_shape(p)), str(p.ty.dtype)) for value, p in pairs)


def _outputs(graph: Graph, mod: Any) -> tuple[Port, ...]:
    ty = mod["main"].ret_ty
    types = list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]
    pairs = list(zip(graph.outputs, types, strict=False))
    wrong = [v.name for v, t in pairs if not isinstance(t, relax.TensorType)]
    if wrong or len(types) != len(graph.outputs):
        name = (wrong or [graph.outputs[-1].name])[0]
        raise UnsupportedError(f"{graph.source}: output {name!r} is no tensor; tesa compiles tensors only")
    return tuple(Port(v.name, tuple(int(n) for n in t.shape), str(t.dtype)) for v, t in pairs)


def _trace_weights(
    graph: Graph, mod: Any, names: Mapping[str, str]
) -> tuple[dict[str, tuple[WeightUse, ...]], dict[tuple[str, int], Quantization]]:
    """Follow each weight constant of a convolution or matmul back to its initializer, by its layer's node."""
    waiting: dict[str, list[Any]] = {}
    for node in graph.nodes:
        waiting.setdefault(graph.layers[node.output[0]], []).append(node)
    uses: dict[str, tuple[WeightUse, ...]] = {}
    quantization = {}
    for binding in _all_bindings(mod):
        call = binding.value
        if not isinstance(call, relax.Call) or getattr(call.op, "name", "") not in WEIGHT_CALLS:
            continue
        node = _node_of(graph, call, waiting.get(names.get(binding.var.name, ""), []))
        if node is None:
            continue
        for argument, expr in enumerate(call.args):
            tensor = node.input[argument] if argument < len(node.input) else ""
            if constant_value(expr) is None:
                continue
            source, turned = graph.sources.get(tensor), node.op_type == "Gemm" and attributes(node).get("transB", 0)
            if source is not None:
                axes = (source.axes or (0, 1))[::-1] if turned else source.axes
                use = WeightUse(names[binding.var.name], binding.var.name, argument, axes)
                uses[source.initializer] = (*uses.get(source.initializer, ()), use)
            q = graph.quantization.get(tensor) or integer_quantization(graph, node, argument)
            if q is not None:
                alpha = attributes(node).get("alpha", 1.0) if node.op_type == "Gemm" else 1.0
                if alpha > 0:  # it was multiplied into the weight
                    q = replace(q, scale=np.asarray(q.scale * np.asarray(q.scale).dtype.type(alpha)))
                if turned:
                    q = replace(q, scale=np.transpose(q.scale), zero_point=np.transpose(q.zero_point))
                quantization[binding.var.name, argument] = q
    return uses, quantization


def _node_of(graph: Graph, call: Any, nodes: list[Any]) -> Any:
    """The node of a layer that has become a call, None if there is none; where there are several it is taken out."""
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    values = {i: constant_value(expr) for i, expr in enumerate(call.args)}
    sizes = {i: value.size for i, value in values.items() if value is not None}
    for node in nodes:
        read = [graph.constants.get(node.input[i]) if i < len(node.input) else None for i in sizes]
        fits = all(x is not None and x.size == size for x, size in zip(read, sizes.values(), strict=True))
        if fits and node.op_type in PRODUCTS:
            nodes.remove(node)
            return node
    return None
