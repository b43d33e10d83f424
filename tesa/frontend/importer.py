"""Imports a checked graph into Relax with TVM's ONNX importer and tesa's own converters."""

from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from tesa.base.loop_names import LOOP, STEP
from tesa.base.quiet import quiet
from tesa.errors import TesaError, UnsupportedError
from tesa.frontend import expansions, legalize, operators  # noqa: F401  (importing them registers what is in them)
from tesa.frontend.agree import expected
from tesa.frontend.computed import count_computed
from tesa.frontend.control.bodies import is_control
from tesa.frontend.control.repeat import repeated
from tesa.frontend.converters import has_converter
from tesa.frontend.expand import has_expansion
from tesa.frontend.expressions import constant, type_text, value_text
from tesa.frontend.graph import Graph, attributes, domain_of, tensor_type
from tesa.frontend.integer import REWRITES
from tesa.frontend.loops import LoopTypes, many_steps
from tesa.frontend.names import Unique, identifier
from tesa.frontend.parameters import open_parameter
from tesa.frontend.registry import MICROSOFT, find_converter
from tesa.frontend.schemas import check_written
from tesa.frontend.short import check_rounding

MAIN = "main"  # the function that a module begins with; a variable of that name would take it away
PLACEHOLDERS = {"Attention", "EmbedLayerNormalization", "BatchNormalization"}  # further outputs that TVM leaves out


def importable(op: str, domain: str = "", opset: int = 18) -> bool:
    """True if there is a way to bring the operator into Relax. domain, opset: of its set; "" for ONNX's own."""
    return has_converter(op, domain) or has_expansion(op, domain, opset) or (domain, op) in REWRITES


def to_relax(graph: Graph) -> tuple[Any, dict[str, str], dict[str, str]]:
    """Import a graph: (module, layer of each variable, ONNX output tensor of the variable that ends a layer)."""
    importer = _Importer(graph)
    with quiet():
        try:
            importer.add_loops()
            mod = importer.from_onnx(_Body(graph), graph.opset)
        except BaseException:
            importer.bb._end_block()  # else TVM complains on stderr about the block that the failure left open
            raise
    return mod, importer.layer_of, importer.tensor_of


class _Body:
    """A graph as TVM's importer reads it, in place of a GraphProto; the initializers come from Graph.constants."""

    def __init__(self, graph: Graph) -> None:
        self.node, self.input, self.output, self.initializer = graph.nodes, graph.inputs, graph.outputs, ()


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """Names every binding after its layer and prefers the converters of this package."""

    def __init__(self, graph: Graph, around: "_Importer | None" = None) -> None:
        dtypes = {value.name: tensor_type(value) for value in graph.inputs}
        super().__init__({}, dtypes, keep_params_in_input=False, sanitize=True)
        self._graph = graph
        self._unique: Unique = Unique() if around is None else around._unique
        self._unique.taken |= {MAIN, *(self._sanitize_name(value.name) for value in graph.inputs)}
        self._loops: dict[str, Any] = {}
        self.results: list[Any] = []
        if around is not None:
            self.bb: Any = around.bb
        self._pending = iter(graph.nodes)
        self._read = set(graph.users())
        self._expected = expected(graph)
        self.layer_of: dict[str, str] = {}
        self.tensor_of: dict[str, str] = {}

    def add_loops(self) -> None:
        """Add the functions of the loops in the graph to the module, those of inner loops first."""
        for node in self._graph.nodes:
            if not is_control(node, "Repeat"):
                continue
            layer = self._graph.layers[node.output[0]]
            body = _Importer(self._graph.bodies[node.output[0]], self)
            body.add_loops()
            step = body.add_function(self._unique(f"{STEP}{identifier(layer)}"))
            self.layer_of |= body.layer_of
            loop = repeated(node)
            types = [value.ty for value in body._inputs.values()]
            first, last = len(loop.states), len(loop.states) + len(loop.scanned)
            shape = LoopTypes(
                tuple(types[:first]), tuple(types[first:last]), tuple(types[last:]), tuple(body.results[first:]),
                loop.reverse, loop.out_reverse,
            )  # fmt: skip
            _check_states(self._graph, layer, shape, body.results)
            name = self._unique(f"{LOOP}{identifier(layer)}")
            self._loops[node.output[0]] = many_steps(self.bb, name, shape, step, loop.steps)

    def add_function(self, name: str) -> Any:
        """Add the graph as a private function that returns a tuple; its GlobalVar."""
        graph, self.opset = _Body(self._graph), self._graph.opset
        self._parse_graph_initializers(graph)
        self._parse_graph_input(graph)
        with self.bb.function(name, list(self._inputs.values()), private=True):
            with self.bb.dataflow():
                self._construct_nodes(graph)
                outputs = [self._nodes[output.name] for output in graph.output]
                self.results = [output.ty for output in outputs]
                result = self.bb.emit_output(relax.Tuple(outputs))
            return self.bb.emit_func_output(result)

    def _repeat(self, node: Any, inputs: list[Any]) -> Any:
        """The call of the functions of a loop. What is cut or stacked along another axis than 0 is turned."""
        loop = repeated(node)
        first = len(loop.states)
        arguments = list(inputs[:first])
        for x, axis in zip(inputs[first : first + len(loop.scanned)], loop.axes, strict=True):
            arguments.append(_moved(self.bb, x, axis % len(x.ty.shape), 0))
        captured = zip(loop.captured, inputs[first + len(loop.scanned) :], strict=True)
        arguments += [x for name, x in captured if name not in self._graph.constants]
        found = self.bb.emit(relax.Call(self._loops[node.output[0]], arguments))
        results = [self.bb.emit(relax.TupleGetItem(found, i)) for i in range(first + len(loop.out_axes))]
        stacked = zip(results[first:], loop.out_axes, strict=True)
        return relax.Tuple([*results[:first], *(_moved(self.bb, y, 0, axis % len(y.ty.shape)) for y, axis in stacked)])

    def _parse_graph_initializers(self, graph: Any) -> None:
        for name, array in self._graph.constants.items():
            try:
                self._nodes[name] = constant(array)
            except Exception as error:
                raise UnsupportedError(
                    f"{self._graph.source}: tensor {name!r} of type {array.dtype} and shape {list(array.shape)} cannot "
                    "be imported. Store it as another type"
                ) from error

    def _check_for_unsupported_ops(self, graph: Any) -> None:
        """Do nothing: checks.py has checked, with the converters of this package."""

    def _sanitize_name(self, name: str) -> str:
        plain = identifier(name)
        return f"{plain}_" if plain == MAIN else plain

    def _count_computed(self, node: Any, inputs: list[Any], where: str) -> None:
        """Count the results of a node that has constants alone, which TVM computes as it converts it."""
        given = [x for x in inputs if x is not None]
        if given and all(isinstance(x, tvm.ir.GenericConst) for x in given):
            shapes, dtypes = self._expected.shapes, self._expected.dtypes
            for name in node.output:
                if name in shapes and name in dtypes:
                    tensor = f"{where}: tensor {name!r}"
                    count_computed(self._graph, shapes[name], dtypes[name], tensor, copies=2)

    def _convert_operator(self, op_name: str, inputs: list[Any], attrs: dict[str, Any], opset: int) -> Any:
        node = next(self._pending)
        layer = self._graph.layers[node.output[0]]
        where = f"{self._graph.source}: node {layer!r} ({op_name})"
        try:
            check_written(self._graph.opset, [node], where)
            self._expected.check_sizes(node, where)
            self._count_computed(node, inputs, where)
            check_rounding(node, inputs, attrs)
            converter = find_converter(op_name, domain_of(node))
            value = converter(self.bb, inputs, attrs) if converter is not None else None
            if is_control(node):
                value = self._repeat(node, inputs)
            if value is None:
                value = super()._convert_operator(op_name, inputs, attrs, opset)
            self._check_outputs(value, node)
            value = self._name(value, layer, node)
            self._expected.check(node, value, where)
            return value
        except UnsupportedError as error:
            raise UnsupportedError(f"{where}: {error}") from error
        except TesaError:
            raise
        except Exception as error:
            raise self._failure(error, op_name, inputs, node, layer) from error

    def _failure(self, error: Exception, op: str, inputs: list[Any], node: Any, layer: str) -> UnsupportedError:
        """The error for a converter that has failed: of a user's own its reason, of others what it was given."""
        given = ", ".join(type_text(x) for x in inputs if x is not None) or "none"
        where = f"{self._graph.source}: node {layer!r}"
        if domain_of(node) not in ("", MICROSOFT):
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            return UnsupportedError(
                f"{where}: the converter of {domain_of(node)}::{op} fails with inputs {given}: {reason}. "
                "Repair the converter"
            )
        missing = open_parameter(self._graph, [node])
        if missing:
            return UnsupportedError(f"{where} ({op}): {missing}")
        options = ", ".join(f"{name}={value_text(value)}" for name, value in attributes(node).items())
        return UnsupportedError(
            f"{where} ({op}): this form of the operator cannot be imported: inputs {given}"
            f"{'; ' + options if options else ''}. If its shapes and types fit each other, export it in another way: "
            "another opset, or simpler operators"
        )

    def _check_outputs(self, value: Any, node: Any) -> None:
        """Raise an UnsupportedError for an output that is read but that TVM's converter leaves out."""
        ty = getattr(value, "ty", None)
        several = value if isinstance(value, relax.Tuple) else ty if isinstance(ty, relax.TupleType) else None
        there = 1 if several is None else len(several.fields)
        read = [i for i, name in enumerate(node.output) if name and name in self._read]
        if read and max(read) >= there:
            raise UnsupportedError(f"output {node.output[max(read)]!r}, its number {max(read) + 1}, cannot be imported")
        if isinstance(value, relax.Tuple) and node.op_type in PLACEHOLDERS and read[1:]:
            raise UnsupportedError(f"output {node.output[read[1]]!r} cannot be imported; only the first one can")

    def _name(self, value: Any, layer: str, node: Any) -> Any:
        if isinstance(value, relax.Tuple):
            wanted = zip(value.fields, node.output, strict=False)  # optional outputs may be left out, at the end
            fields = [self._name_one(field, layer, tensor) for field, tensor in wanted]
            return fields[0] if len(fields) == 1 else relax.Tuple(fields)
        return self._name_one(value, layer, node.output[0])

    def _name_one(self, value: Any, layer: str, tensor: str) -> Any:
        if isinstance(value, relax.Var) and value.name not in self._unique.taken:
            self.layer_of.setdefault(value.name, layer)
            self.tensor_of.setdefault(value.name, tensor)
        if not isinstance(value, relax.Call | relax.TupleGetItem):
            return value
        var = self._bind(value, layer)
        self.tensor_of[var.name] = tensor
        return var

    def _bind(self, value: Any, layer: str) -> Any:
        if isinstance(value, relax.Call):
            args = [self._bind(a, layer) if isinstance(a, relax.Call) else a for a in value.args]
            value = relax.Call(value.op, args, value.attrs, value.ty_args)
        var = self.bb.emit(self.bb.normalize(value), name_hint=self._unique(identifier(layer)))
        self.layer_of[var.name] = layer
        return var


def _moved(bb: Any, x: Any, source: int, target: int) -> Any:
    """The tensor with one of its axes in another place."""
    order = [axis for axis in range(len(x.ty.shape)) if axis != source]
    order.insert(target, source)
    return x if source == target else bb.emit(relax.op.permute_dims(x, order))


def _check_states(graph: Graph, layer: str, shape: LoopTypes, results: list[Any]) -> None:
    """Raise an UnsupportedError for a loop whose states change their types from step to step."""
    for before, after in zip(shape.states, results, strict=False):
        if type_text_of(before) != type_text_of(after):
            raise UnsupportedError(
                f"{graph.source}: node {layer!r}: a state of the loop is {type_text_of(before)} before a step and "
                f"{type_text_of(after)} behind it; tesa compiles loops whose states keep their types. Unroll it"
            )


def type_text_of(ty: Any) -> str:
    """A tensor type in words.

    >>> type_text_of(relax.TensorType((2, 3), "float32"))
    'float32[2, 3]'
    """
    return f"{ty.dtype}{[int(n) for n in ty.shape]}"
