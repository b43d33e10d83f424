"""If, Loop, Scan and sequences against onnxruntime: decided at import, written out, kept as loops, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import relax

from tesa.errors import ModelError, UnsupportedError
from tesa.frontend import import_onnx
from tests.support import QUICK

from .onnx_models import floats
from .test_import import compare, operators

KINDS = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}


def n(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node; names are separated by blanks, "_" stands for one that is left out."""
    names = [["" if name == "_" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, names[1][0], **attributes)


def value(name: str, kind: str = "f", shape: Sequence[int] | None = None) -> Any:
    return helper.make_tensor_value_info(name, KINDS[kind], shape)


def body(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: Mapping[str, Any]) -> Any:
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    return helper.make_graph(list(nodes), "body", list(inputs), list(outputs), tensors)


def branch(nodes: Sequence[Any], *outputs: str, **constants: Any) -> Any:
    """A branch; without nodes it gives a tensor around it, by an Identity, as onnxruntime asks for."""
    if not nodes:
        nodes, outputs = [n("Identity", outputs[0], "same")], ("same",)
    return body(nodes, [], [value(name) for name in outputs], constants)


def model(
    nodes: Sequence[Any], feeds: Mapping[str, Any], outputs: Sequence[str], constants: Mapping[str, Any] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:  # fmt: skip
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in feeds.items()
    ]
    graph = body(nodes, ports, [onnx.ValueInfoProto(name=name) for name in outputs], constants or {})
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


X = {"x": floats(2, 3, 4)}


def test_conditions_that_shapes_decide() -> None:
    """The branch is taken in; both may read tensors around them, have constants of their own and be nested."""
    inner = n("If", "flat", "z", then_branch=branch([n("Neg", "x", "t")], "t"), else_branch=branch([], "x"))
    nodes = [
        n("Shape", "x", "s"), n("Gather", "s one", "d"), n("Equal", "d three", "yes"), n("Not", "yes", "flat"),
        n("If", "yes", "y",
          then_branch=branch([n("Mul", "x two", "m"), inner, n("Add", "m z", "t")], "t", two=np.float32(2)),
          else_branch=branch([n("Relu", "x", "t")], "t")),
        n("If", "flat", "w", then_branch=branch([n("Exp", "x", "t")], "t"),
          else_branch=branch([n("Mul", "y two", "t")], "t", two=np.float32(4))),
    ]  # fmt: skip
    given = model(nodes, X, ["y", "w"], {"one": np.int64(1), "three": np.int64(3)})
    imported = compare(given, X)
    assert operators(imported) == ["multiply", "add", "multiply"]
    assert imported.unused == ()  # what only a condition was made of is not missed


@pytest.mark.parametrize("last", ["", "Identity", "Dropout"])
@pytest.mark.parametrize("data", [False, True])
def test_layers_in_branches_are_called_by_their_nodes(data: bool, last: str) -> None:
    taken = branch([n("MatMul", "x w", "tb")], "tb", w=floats(4, 4))
    left = branch([n("MatMul", "x v", "eb")], "eb", v=floats(4, 4))
    decided = [n("ReduceMax", "x", "m", keepdims=0), n("Greater", "m zero", "c")] if data else [n("Not", "no", "c")]
    nodes = [*decided, n("If", "c", "y", then_branch=taken, else_branch=left), *([n(last, "y", "z")] if last else [])]
    imported = import_onnx(model(nodes, X, ["z" if last else "y"], {"zero": np.float32(0), "no": np.array(False)}))
    names = set(imported.names.values())
    assert names >= {"tb", "eb"} if data else names == {"tb"}


def test_a_branch_that_is_not_taken_may_hold_what_cannot_be_compiled() -> None:
    nodes = [n("If", "no", "y", then_branch=branch([n("NonZero", "x", "i"), n("Cast", "i", "t", to=1)], "t"),
               else_branch=branch([n("Relu", "x", "t")], "t"))]  # fmt: skip
    assert operators(compare(model(nodes, X, ["y"], {"no": np.asarray(False)}), X)) == ["nn.relu"]


@pytest.mark.parametrize("condition", [True, False])
def test_a_condition_that_data_decide_chooses_between_both_branches(condition: bool) -> None:
    weights = {"w": floats(4, 5, seed=1), "v": floats(4, 5, seed=2)}
    nodes = [
        n("ReduceSum", "x", "sum", keepdims=0), n("Less", "sum zero", "c"), n("Unsqueeze", "c axis", "wide"),
        n("If", "c", "y a", then_branch=branch([n("MatMul", "x w", "t"), n("Neg", "x", "u")], "t", "u"),
          else_branch=branch([n("MatMul", "x v", "t"), n("Relu", "x", "u")], "t", "u")),
        n("If", "wide", "b", then_branch=branch([], "a"), else_branch=branch([n("Mul", "a a", "t")], "t")),
        n("If", "wide", "scalar", then_branch=branch([], "sum"), else_branch=branch([n("Mul", "sum sum", "t")], "t")),
    ]  # fmt: skip
    constants = weights | {"zero": np.float32(0), "axis": np.asarray([0])}
    feeds = {"x": np.abs(X["x"]) * np.float32(-1 if condition else 1)}
    imported = compare(model(nodes, feeds, ["y", "b", "scalar"], constants), feeds)
    assert set(imported.weights) == {"w", "v"}


def test_branches_of_different_shapes_are_refused_where_data_decide() -> None:
    nodes = [
        n("ReduceSum", "x", "sum", keepdims=0), n("Less", "sum zero", "c"),
        n("If", "c", "y", then_branch=branch([n("Flatten", "x", "t")], "t"), else_branch=branch([], "x")),
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"node 'y' \(If\): .*branches give float32\[2, 12\] and float32\[2, 3"):
        import_onnx(model(nodes, X, ["y"], {"zero": np.float32(0)}))


def test_a_branch_that_cannot_run_with_these_sizes_gives_nan() -> None:
    """The file itself fails where the condition chooses it; a note says so."""
    nodes = [
        n("ReduceSum", "x", "sum", keepdims=0), n("Less", "sum zero", "c"),
        n("If", "c", "y", then_branch=branch([n("MatMul", "x w", "t")], "t"),
          else_branch=branch([n("MatMul", "x v", "t")], "t")),
    ]  # fmt: skip
    constants = {"zero": np.float32(0), "w": floats(4, 5), "v": floats(3, 5)}
    imported = import_onnx(model(nodes, X, ["y"], constants))
    assert imported.graph is not None
    assert imported.graph.notes == (
        "y: a branch cannot run with these sizes (MatMul of [2, 3, 4], [3, 5]: Incompatible dimensions for matrix "
        "multiplication); its results are NaN",
    )
    negative = {"x": -np.abs(X["x"])}
    np.testing.assert_allclose(run(imported, negative)[0], negative["x"] @ constants["w"], rtol=1e-5)
    assert np.isnan(run(imported, {"x": np.abs(X["x"])})[0]).all()


def run(imported: Any, feeds: Mapping[str, Any]) -> list[Any]:
    """The outputs, by TVM's own pipeline."""
    mod = relax.get_pipeline("zero")(imported.mod)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target(QUICK)), tvm.cpu())
    found = machine["main"](*[tvm.runtime.tensor(feeds[port.name]) for port in imported.inputs])
    return [t.numpy() for t in ([found] if isinstance(found, tvm.runtime.Tensor) else found)]


def loop_body(nodes: Sequence[Any], states: str, stacked: str = "", condition: str = "go", **constants: Any) -> Any:
    """The body of a Loop; states: "in>out" separated by blanks."""
    pairs = [pair.split(">") for pair in states.split()]
    inputs = [value("i", "i", []), value("go", "b", []), *(value(old) for old, _ in pairs)]
    return body(nodes, inputs, [value(condition, "b"), *(value(new) for _, new in pairs),
                                *(value(name) for name in stacked.split())], constants)  # fmt: skip


STEP = [n("MatMul", "h w", "m"), n("Add", "m k", "a"), n("Tanh", "a", "new"), n("Cast", "i", "f", to=1),
        n("Mul", "new f", "row")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 50])
def test_a_loop_of_known_count(steps: int) -> None:
    """It has states, results of all steps, its number, and reads a tensor around it; nested, and without its states."""
    inner = loop_body([n("Mul", "p half", "q")], "p>q", half=np.float32(0.9))
    nested = loop_body([n("Loop", "three _ r", "s", body=inner), n("Add", "s k", "new")], "r>new")
    nodes = [
        n("Loop", "count yes x", "y rows", body=loop_body(STEP, "h>new", "row")),
        n("Loop", "count _ x", "z", body=nested),
        n("Loop", "count yes", "numbers", body=loop_body([n("Cast", "i", "f", to=1)], "", "f")),
    ]
    constants = {"count": np.int64(steps), "yes": np.asarray(True), "w": floats(4, 4, seed=1), "three": np.int64(3)}
    feeds = X | {"k": floats(4, seed=3)}
    compare(model(nodes, feeds, ["y", "rows", "z", "numbers"], constants), feeds)


def test_loops_whose_condition_counts() -> None:
    """A while loop over a number that is known: for, while, and one that never runs."""
    counting = [n("Add", "j one", "k2"), n("Less", "k2 most", "more"), n("Add", "h h", "new")]
    loop = loop_body(counting, "h>new j>k2", condition="more", one=np.int64(1), most=np.int64(5))
    for state in loop.input, loop.output:
        state[3 if state is loop.input else 2].type.tensor_type.elem_type = TensorProto.INT64
    nodes = [
        n("Loop", "_ yes x start", "y end", body=loop),
        n("Loop", "three yes x", "z", body=loop_body([n("Add", "h h", "new"), n("Less", "i one", "more")], "h>new",
                                                     condition="more", one=np.int64(1))),
        n("Loop", "zero yes x", "w", body=loop_body([n("Add", "h h", "new")], "h>new")),
        n("Add", "w w", "w2"),
    ]  # fmt: skip
    constants = {"yes": np.asarray(True), "start": np.int64(2), "three": np.int64(3), "zero": np.int64(0)}
    compare(model(nodes, X, ["y", "z", "w2"], constants), X)


@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_a_loop_that_data_end_keeps_its_states_from_then_on(scale: float) -> None:
    nodes = [
        n("Loop", "most yes x", "y", body=loop_body(
            [n("Add", "h h", "new"), n("ReduceMax", "new", "top", keepdims=0), n("Less", "top ten", "more")],
            "h>new", condition="more", ten=np.float32(10))),
    ]  # fmt: skip
    feeds = {"x": X["x"] * np.float32(scale)}
    compare(model(nodes, feeds, ["y"], {"most": np.int64(30), "yes": np.asarray(True)}), feeds)


def test_loops_that_only_data_count_are_refused() -> None:
    more = [n("Add", "h h", "new"), n("ReduceMax", "new", "top", keepdims=0), n("Less", "top ten", "more")]
    one = loop_body(more, "h>new", condition="more", ten=np.float32(10))
    with pytest.raises(UnsupportedError, match=r"node 'y' \(Loop\): a condition that depends on data decides"):
        import_onnx(model([n("Loop", "_ yes x", "y", body=one)], X, ["y"], {"yes": np.asarray(True)}))
    rows = loop_body(more, "h>new", "new", condition="more", ten=np.float32(10))
    constants = {"yes": np.asarray(True), "most": np.int64(9)}
    with pytest.raises(UnsupportedError, match=r"node 'y' \(Loop\): data decide how often it runs"):
        import_onnx(model([n("Loop", "most yes x", "y rows", body=rows)], X, ["y", "rows"], constants))
    feeds = X | {"count": np.asarray(3)}
    with pytest.raises(UnsupportedError, match="the number of its iterations, 'count', is known only when"):
        import_onnx(
            model([n("Loop", "count _ x", "y", body=loop_body(more, "h>new", ten=np.float32(1)))], feeds, ["y"])
        )


def scan_body() -> Any:
    nodes = [n("MatMul", "h w", "m"), n("Add", "m a", "p"), n("Sub", "p b", "q"), n("Tanh", "q", "new"),
             n("Add", "new k", "row"), n("Identity", "a", "copy")]  # fmt: skip
    return body(nodes, [value("h"), value("a"), value("b")], [value("new"), value("row"), value("copy")], {})


@pytest.mark.parametrize("steps", [3, 40])
def test_a_scan_over_all_axes_and_directions(steps: int) -> None:
    scan = n("Scan", "first a b", "y rows copies", body=scan_body(), num_scan_inputs=2, scan_input_axes=[0, -1],
             scan_input_directions=[0, 1], scan_output_axes=[1, -1], scan_output_directions=[1, 0])  # fmt: skip
    feeds = {"a": floats(steps, 2, 4), "b": floats(2, 4, steps, seed=1), "k": floats(4, seed=2)}
    constants = {"first": floats(2, 4, seed=3), "w": floats(4, 4, seed=4)}
    compare(model([scan], feeds, ["y", "rows", "copies"], constants), feeds)


@pytest.mark.parametrize("steps", [3, 70])
def test_states_that_are_handed_on_as_they_are(steps: int) -> None:
    """A delay line: the new state is the slice itself, and another state never changes; their memory stays theirs."""
    inside = body([n("Add", "old older", "sum"), n("Add", "sum still", "row"), n("Identity", "old", "second"),
                   n("Identity", "a", "first"), n("Identity", "still", "kept")],
                  [value("old"), value("older"), value("still"), value("a")],
                  [value("first"), value("second"), value("kept"), value("row")], {})  # fmt: skip
    scan = n("Scan", "p q r a", "y z w rows", body=inside, num_scan_inputs=1)
    nodes = [
        n("Neg", "k", "p"),
        n("Abs", "k", "q"),
        n("Exp", "k", "r"),
        n("Sin", "b", "a"),
        scan,
        n("Cos", "b", "end"),
        n("Cos", "k", "again"),
        n("Add", "w again", "both"),
    ]
    feeds = {"b": floats(steps, 2, 4), "k": floats(2, 4, seed=2)}
    compare(model(nodes, feeds, ["y", "z", "w", "rows", "end", "again", "both"]), feeds)


def test_the_scan_of_opset_8_runs_for_each_sequence() -> None:
    scan = n("Scan", "_ first a b", "y rows copies", body=scan_body(), num_scan_inputs=2, directions=[0, 1])
    feeds = {"a": floats(2, 3, 1, 4), "b": floats(2, 3, 1, 4, seed=1), "k": floats(4, seed=2)}
    constants = {"first": floats(2, 1, 4, seed=3), "w": floats(4, 4, seed=4)}
    compare(model([scan], feeds, ["y", "rows", "copies"], constants, opset=8), feeds)


def test_sequences_are_their_tensors() -> None:
    nodes = [
        n("SplitToSequence", "x", "rows", axis=1, keepdims=0),
        n("SequenceAt", "rows minus", "last"), n("SequenceLength", "rows", "count"),
        n("SequenceConstruct", "last last", "pair"), n("SequenceInsert", "pair k", "three"),
        n("SequenceErase", "three zero", "two"), n("ConcatFromSequence", "two", "y", axis=-1),
        n("SplitToSequence", "x sizes", "parts", axis=2), n("SequenceAt", "parts zero", "part"),
        n("ConcatFromSequence", "rows", "stacked", axis=0, new_axis=1),
        n("Loop", "count _ rows", "grown", body=body(
            [n("SequenceInsert", "s k", "t")],
            [value("i", "i", []), value("go", "b", []), onnx.ValueInfoProto(name="s")],
            [value("go", "b"), onnx.ValueInfoProto(name="t")], {})),
        n("SequenceLength", "grown", "length"),
    ]  # fmt: skip
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    for one in (nodes[-2].attribute[0].g.input[2], nodes[-2].attribute[0].g.output[1]):
        one.type.CopyFrom(sequence)
    feeds = X | {"k": floats(2, 4, seed=5)}
    constants = {"minus": np.int64(-1), "zero": np.int64(0), "sizes": np.asarray([1, 3])}
    given = model(nodes, feeds, ["y", "part", "stacked", "length"], constants)
    compare(given, feeds)


def test_a_map_over_a_sequence_is_its_body_for_each_member() -> None:
    inside = body([n("Mul", "s k", "m"), n("Add", "m v", "t"), n("Neg", "s", "u")],
                  [value("s", "f", [2, 1, 4]), value("v", "f", [2, 1, 4])], [value("t", "f", [2, 1, 4]),
                  value("u", "f", [2, 1, 4])], {})  # fmt: skip
    nodes = [
        n("SplitToSequence", "x", "rows", axis=1), n("SplitToSequence", "z", "others", axis=1),
        n("SequenceMap", "rows others", "made turned", body=inside),
        n("ConcatFromSequence", "made", "y", axis=0), n("SequenceAt", "turned two", "w"),
    ]  # fmt: skip
    feeds = X | {"z": floats(2, 3, 4, seed=7), "k": floats(4, seed=8)}
    compare(model(nodes, feeds, ["y", "w"], {"two": np.int64(2)}), feeds)


def test_a_position_that_only_data_know_is_refused() -> None:
    nodes = [n("SplitToSequence", "x", "rows"), n("SequenceAt", "rows at", "y")]
    feeds = X | {"at": np.asarray(1)}
    with pytest.raises(UnsupportedError, match="which tensors are in its sequence is known only when the model runs"):
        import_onnx(model(nodes, feeds, ["y"]))


def test_a_sequence_that_leaves_the_model_is_refused() -> None:
    given = model([n("SplitToSequence", "x", "rows", axis=1)], X, ["rows"])
    with pytest.raises(UnsupportedError, match=r"node 'rows' \(SequenceConstruct\): 'rows' is a sequence that leaves"):
        import_onnx(given)


def test_faults_inside_of_bodies_are_found() -> None:
    yes = {"yes": np.asarray(True)}
    missing = n("If", "yes", "y", then_branch=branch([n("Neg", "gone", "t")], "t"), else_branch=branch([], "x"))
    with pytest.raises(ModelError, match="reads tensor 'gone', which no node, input or initializer provides"):
        import_onnx(model([missing], X, ["y"], yes))
    unknown = n("Loop", "count _ x", "y", body=loop_body([n("Nonsense", "h", "new")], "h>new"))
    with pytest.raises(UnsupportedError, match="Nonsense"):
        import_onnx(model([unknown], X, ["y"], {"count": np.int64(99)}))
    random = n(
        "If", "yes", "y", then_branch=branch([n("RandomNormalLike", "x", "t")], "t"), else_branch=branch([], "x")
    )
    with pytest.raises(UnsupportedError, match="draws random numbers"):
        import_onnx(model([random], X, ["y"], yes))
