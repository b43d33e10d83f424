"""Lowers a Relax function: weight layers become calls of kernels still to be chosen, the rest follows their layout."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import tvm
from tvm import relax

from tesa.frontend.loops import functions_of
from tesa.frontend.names import Unique
from tesa.layers.anchor import Anchor
from tesa.layers.anchors import Chain, Known, find_chains
from tesa.layers.codes_dynamic import Dynamic, dynamic_calls, find_dynamic
from tesa.layers.codes_layers import Integer, KernelCall, Precisions, float_problem, integer_layers, stored
from tesa.layers.codes_operators import lower_coded
from tesa.layers.emitter import Emitter
from tesa.layers.expressions import op_name, shape_of
from tesa.layers.layout import SIGNED, Value, identity
from tesa.layers.longer import lengthen
from tesa.layers.operators import lower_operator, plain_argument
from tesa.layers.origins import Recorder
from tesa.layers.outputs import emit_outputs
from tesa.layers.quantizers import emit_scale
from tesa.layers.rearrange import shuffle, stack
from tesa.layers.sampled import Sampled, emit_sampled, find_sampled
from tesa.schedules.types import FloatArray, Problem

PLACEHOLDER = "tesa.layer."


@dataclass(frozen=True)
class WeightLayer:
    """A layer whose kernel is to be generated.

    source, result: the source variables of its matmul or convolution and of what the fused kernel computes; layout: the
    logical axis that each stored axis of the result holds, ~axis for the phases of one: element q * phases + r of it
    is stored at (q, r); axis: the logical axis of its output features. whole: its name, or that of the layer which it
    is a piece of; piece: (axis, start, stop) of the result that it then computes. covers: the layers that the kernel
    computes. scale: of an int8 layer, by which each row's sum is multiplied. whole_sum: False where the kernel computes
    one of several summands of the result. signed: it stores int8 codes with 128 added. sources: where it is a sum of
    several products, the variables of all of them.
    """

    name: str
    problem: Problem
    weight: FloatArray
    bias: FloatArray | None
    source: str
    result: str
    layout: tuple[int, ...]
    axis: int
    whole: str
    covers: tuple[str, ...] = ()
    piece: tuple[int, ...] = ()
    scale: FloatArray | None = None
    whole_sum: bool = True
    signed: bool = False
    sources: tuple[str, ...] = ()

    @property
    def placeholder(self) -> str:
        """The symbol that the lowered function calls until a kernel is bound."""
        return PLACEHOLDER + self.name


@dataclass(frozen=True)
class Lowered:
    """The lowered module and its weight layers in running order. origins: the layer that a variable was emitted for."""

    mod: Any
    layers: tuple[WeightLayer, ...]
    origins: Mapping[str, str] = field(default_factory=dict)


def lower(
    mod: Any, names: Mapping[str, str], threads: int = 1, facts: Mapping[str, Known] | None = None,
    integer: Integer | None = None, codes_first: bool = False,
) -> Lowered:  # fmt: skip
    """Lower the module's main function.

    names gives the layer name of a source variable, where it has one; facts what propagation found for the variable
    that a layer's matmul or convolution is bound to. Inputs and outputs stay row-major. integer: says of a layer
    between codes whether it is computed on integers; None leaves all layers float32. codes_first: kernels are those of
    a GPU: of integers they have the layout features_first, and none knows of a depth.
    """
    builder = Recorder(relax.BlockBuilder())
    layers: list[WeightLayer] = []
    functions: dict[Any, Any] = {}
    given = _Given(names, threads, facts or {}, integer, codes_first)
    for var, function in functions_of(mod):
        emitter = Emitter(builder, functions)
        functions[var] = _lower_function(emitter, var.name_hint, function, layers, given)
    lowered = builder.get()
    for var, function in mod.functions_items():
        if not isinstance(function, relax.Function):
            lowered[var] = function
    return Lowered(tvm.IRModule(lowered.functions), tuple(layers), builder.origins)


@dataclass(frozen=True)
class _Given:
    """The arguments of `lower` that do not change from function to function."""

    names: Mapping[str, str]
    threads: int
    facts: Mapping[str, Known]
    integer: Integer | None
    codes_first: bool


def _lower_function(
    emitter: Emitter, name: str, function: Any, layers: list[WeightLayer],
    given: _Given,
) -> Any:  # fmt: skip
    """Lower one function of the module and add its weight layers to `layers`; its new GlobalVar."""
    names = given.names
    builder = emitter.builder
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    outputs = set(_fields(function.body.body, bindings))
    chains = find_chains(bindings, outputs, given.facts)
    dynamic: list[Dynamic] = []
    if given.integer is not None and not given.codes_first:
        dynamic = find_dynamic(bindings, outputs, given.facts, chains, given.threads, given.integer)
    replaced = {var for one in dynamic for var in (one.chain.first, *one.inside)}
    static = [chain for chain in chains if chain.first not in replaced]
    if given.integer is not None:
        static = lengthen(bindings, outputs, static, [one.chain for one in dynamic])
    chains = [*static, *(one.chain for one in dynamic)]
    quantizers = {one.quantizer.scale: one.quantizer for one in dynamic}
    coded = {one.chain.last: one for one in dynamic}
    heads = {chain.last: chain for chain in chains}
    sampled = find_sampled(bindings, outputs)
    absorbed = {var for chain in chains for var in chain.absorbed}
    absorbed |= {var for sample in sampled.values() for var in sample.absorbed}
    params = [relax.Var(p.name, p.ty) for p in function.params]
    tuples: dict[Any, list[Value]] = {}
    with builder.function(name, params, private=name != "main"):
        with builder.dataflow():
            for old, new in zip(function.params, params, strict=True):
                shape = shape_of(old)
                emitter.values[old] = Value(new, shape, str(old.ty.dtype), identity(len(shape)))
            for binding in bindings:
                if binding.var in absorbed or binding.var in emitter.values:
                    continue
                first = heads[binding.var].first if binding.var in heads else binding.var
                builder.layer = names.get(first.name, "")
                emitter.next_operator()
                if binding.var in heads and heads[binding.var].short is not None:
                    layers += _emit_longer(emitter, heads[binding.var], given, layers, bindings)
                elif binding.var in heads:
                    layers += _emit_layer(emitter, heads[binding.var], given, layers, coded.get(binding.var))
                elif binding.var in quantizers:
                    emit_scale(emitter, quantizers[binding.var])
                else:
                    _lower_binding(emitter, binding, tuples, given.integer is not None, sampled.get(binding.var))
                emitter.sources[binding.var] = binding.value
            results = emit_outputs(builder, _results(emitter, function.body.body, tuples))
        return builder.emit_func_output(results[0] if hasattr(function.ret_ty, "shape") else relax.Tuple(results))


def _fields(expr: Any, bindings: list[Any]) -> list[Any]:
    """The variables that make up the function's result."""
    by_var = {binding.var: binding.value for binding in bindings}
    found = []
    while expr in by_var and isinstance(by_var[expr], relax.Tuple | relax.Var):
        found.append(expr)
        expr = by_var[expr]
    return found + (list(expr.fields) if isinstance(expr, relax.Tuple) else [expr])


def _lower_binding(
    emitter: Emitter, binding: Any, tuples: dict[Any, list[Value]], coded: bool, sample: Sampled | None = None
) -> None:
    """Lower one binding that is no weight layer and record what its variable became.

    coded: tensors may be codes. sample: where it is such a sum.
    """
    expr = binding.value
    made = None if sample is None or (coded and not sample.absorbed) else emit_sampled(emitter, sample)
    if made is not None:
        emitter.values[binding.var] = made
    elif isinstance(expr, relax.Tuple):
        tuples[binding.var] = [emitter.coded(field) for field in expr.fields]
    elif isinstance(expr, relax.TupleGetItem):
        emitter.values[binding.var] = tuples[expr.tuple_value][int(expr.index)]
    elif isinstance(expr, relax.Call) and not hasattr(binding.var.ty, "shape"):
        tuples[binding.var] = _lower_tuple(emitter, binding.var, expr)
    elif isinstance(expr, relax.Call):
        value = lower_coded(emitter, expr) if coded else None
        emitter.values[binding.var] = value or lower_operator(emitter, expr)
    elif expr in tuples:
        tuples[binding.var] = tuples[expr]
    else:
        emitter.values[binding.var] = emitter.coded(expr)


def _lower_tuple(emitter: Emitter, var: Any, call: Any) -> list[Value]:
    """A call with several results: split keeps its layout, others work row-major."""
    types = list(var.ty.fields)
    shapes = [tuple(int(e) for e in ty.shape) for ty in types]
    if op_name(call) == "relax.split":
        value = emitter.coded(call.args[0])
        axis = value.perm.index(int(call.attrs.axis) % len(value.shape))
        sections = call.attrs.indices_or_sections
        parts = [int(s) for s in sections] if hasattr(sections, "__len__") else int(sections)
        result = emitter.builder.emit(relax.op.split(value.expr, parts, axis))
        perms, grid = [value.perm] * len(shapes), value.grid
    else:
        args = [plain_argument(emitter, arg) for arg in call.args]
        result = emitter.builder.emit(relax.Call(emitter.callee(call.op), args, call.attrs, call.ty_args))
        perms, grid = [identity(len(shape)) for shape in shapes], None
    fields = [emitter.builder.emit(relax.TupleGetItem(result, i)) for i in range(len(shapes))]
    return [Value(f, s, str(t.dtype), p, grid) for f, s, t, p in zip(fields, shapes, types, perms, strict=True)]


def _emit_longer(
    emitter: Emitter, chain: Chain, given: _Given, before: list[WeightLayer], bindings: list[Any]
) -> list[WeightLayer]:
    """A chain with codes on the way: as one layer on integers; else its layer alone, and the operators behind it.

    bindings: of the function.
    """
    assert chain.short is not None  # see lengthen
    assert given.integer is not None
    answers = []

    def asked(ways: Precisions) -> bool:
        answers.append(given.integer is not None and given.integer(ways))
        return answers[-1]

    name = given.names.get(chain.first.name, "")
    if integer_layers(emitter, chain, name, given.threads, asked, given.codes_first):
        return _emit_layer(emitter, chain, given, before)
    # where it is faster in float32, so is its first part; else what follows keeps it from being one of integers
    alone = replace(given, integer=None) if not all(answers) else given
    made = _emit_layer(emitter, chain.short, alone, before)
    inside = {*chain.absorbed, chain.last} - {*chain.short.absorbed, chain.short.last}
    for binding in bindings:
        if binding.var in inside and binding.var not in emitter.values:
            emitter.builder.layer = given.names.get(binding.var.name, "")
            emitter.next_operator()
            _lower_binding(emitter, binding, {}, True)
        if binding.var in inside:
            emitter.sources[binding.var] = binding.value
    return made


def _emit_layer(
    emitter: Emitter, chain: Chain, given: _Given, before: list[WeightLayer], dynamic: Dynamic | None = None
) -> list[WeightLayer]:
    """Emit the call of a fused weight layer's kernel, or of the kernels of its pieces, and record what it computes.

    before: the layers so far. dynamic: where its codes are made at run time.
    """
    names = given.names
    whole = names.get(chain.first.name, "") or f"layer{len(before)}"
    name = whole
    if any(layer.whole == whole for layer in before):  # an operator that is several products, one for each axis
        name = Unique({*names.values(), *(layer.name for layer in before)})(whole)
    plans: tuple[KernelCall, ...] = ()
    if given.integer is not None:
        plans = (
            integer_layers(emitter, chain, name, given.threads, given.integer, given.codes_first) if dynamic is None
            else dynamic_calls(emitter, dynamic, given.threads, given.integer)
        )  # fmt: skip
    last = chain.last if not plans or chain.store is None else chain.store.var
    covered = (chain.first, *chain.absorbed, chain.last, *(() if last is chain.last else (last,)))
    covers = tuple(dict.fromkeys(filter(None, (names.get(var.name, "") for var in covered))))
    plans = plans or tuple(_float_layer(emitter, chain, anchor, given) for anchor in chain.anchors)
    made: list[WeightLayer] = []

    def emitted(plan: KernelCall, own: str) -> Value:
        if plan.before is not None:
            plan = plan.behind(emitted(plan.before, f"{own}.rest").expr)
        layer = WeightLayer(
            own, plan.problem, plan.weight, plan.bias, chain.first.name, last.name, plan.layout, plan.anchor.axis,
            whole, covers, () if plan.anchor.piece is None else plan.anchor.piece.made, plan.scale, plan.whole,
            plan.grid == SIGNED, () if dynamic is None else tuple(var.name for var in dynamic.inside),
        )  # fmt: skip
        made.append(layer)
        return _emit_kernel(emitter, plan, layer.placeholder)

    values = [emitted(plan, name if len(plans) == 1 else f"{name}.piece{i}") for i, plan in enumerate(plans)]
    emitter.values[last] = values[0] if len(plans) == 1 else emitter.joined(values, chain.anchor.features[0])
    return made


def _float_layer(emitter: Emitter, chain: Chain, anchor: Anchor, given: _Given) -> KernelCall:
    """The call of a float32 kernel for a chain, or a piece of it."""
    anchor = anchor.stacked() if given.codes_first else anchor.in_place()
    x, weight = _activation(emitter, anchor), chain.weight_of(anchor)
    problem, layout = float_problem(chain, anchor, shape_of(x), given.threads), stored(anchor)[1]
    residual = () if chain.residual is None else (emitter.to(emitter.value(chain.residual), anchor.y_perm).expr,)
    perm = identity(len(anchor.shape)) if anchor.phases else anchor.y_perm
    return KernelCall(anchor, problem, weight, (x, *residual), layout, perm, "float32", chain.bias_of(anchor))


def _emit_kernel(emitter: Emitter, plan: KernelCall, placeholder: str) -> Value:
    """Emit the call of one kernel; what it computes."""
    problem, shape = plan.problem, plan.anchor.shape
    x, *residual = plan.arguments
    call = relax.call_dps_packed(
        placeholder, [x, *plan.rows, *residual], relax.TensorType(problem.y_shape, problem.output.dtype)
    )
    if plan.anchor.phases and plan.whole:
        made = shuffle(emitter, emitter.builder.emit(call), shape, plan.layout, plan.perm)
    else:
        made = emitter.emit(call, shape, plan.perm)
    return replace(made, dtype=plan.dtype, grid=plan.grid)


def _activation(emitter: Emitter, anchor: Anchor) -> Any:
    """The activation that the kernel reads."""
    source = emitter.real(emitter.coded(anchor.source), keep=True)
    if anchor.piece is not None and anchor.piece.read is not None:
        source = emitter.part(source, *anchor.piece.read)
    if anchor.stack is not None:
        return stack(emitter, source, anchor.stack)
    return emitter.to(source, anchor.x_perm).expr


def _results(emitter: Emitter, expr: Any, tuples: dict[Any, list[Value]]) -> list[Any]:
    """The function's results in row-major layout."""
    if expr in tuples:
        return [emitter.plain(value) for value in tuples[expr]]
    fields = expr.fields if isinstance(expr, relax.Tuple) else [expr]
    return [emitter.plain(emitter.coded(field)) for field in fields]
