"""Single operators run through TVM, compared with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, te
from tvm.relax import op as R

from tesa.propagate.executor import CannotRunError, compile_node, has_side_effect, legalized
from tesa.propagate.network import build_network
from tesa.propagate.tir_analysis import bounded, primfuncs, read
from tests.propagate.run_network import run_network

from .calls import call, module, network

F = "float32"


def arrays(*types: Any) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(d) if "float" in d else rng.integers(0, 2, s).astype(d) for s, d in types]


@pytest.mark.parametrize(
    ("function", "types", "reference"),
    [
        (R.exp, [((2, 3), F)], lambda x: [np.exp(x)]),
        (R.exp, [((), F)], lambda x: [np.exp(x)]),
        (R.negative, [((4,), "float16")], lambda x: [-x]),
        (R.add, [((4,), "int8"), ((4,), "int8")], lambda x, y: [x + y]),
        (R.logical_not, [((4,), "bool")], lambda x: [~x]),
        (lambda x, y: R.concat((x, y), 1), [((2, 3), F), ((2, 1), F)], lambda x, y: [np.concatenate([x, y], 1)]),
        (lambda x: R.split(x, 3, 1), [((2, 3), F)], lambda x: np.split(x, 3, 1)),
        (lambda x: R.topk(x, 2, 1, "values"), [((3, 5), F)], lambda x: [-np.sort(-x, 1)[:, :2]]),
        (lambda x: R.cumsum(x, 1), [((3, 5), "int32")], lambda x: [np.cumsum(x, 1)]),
        (lambda x: R.clip(x, 0, 1), [((3, 5), F)], lambda x: [np.clip(x, 0, 1)]),
        (lambda x: R.strided_slice(x, [1], [1], [4], [2]), [((3, 5), F)], lambda x: [x[:, 1:4:2]]),
        (lambda x: R.add(x, relax.const(np.ones(5, F))), [((3, 5), F)], lambda x: [x + 1]),
    ],
)  # fmt: skip
def test_an_operator_computes_what_numpy_does(function: Any, types: Any, reference: Any) -> None:
    node = call(function, *types)
    args = arrays(*types)
    constants = [c for c in node.operator.constants if c is not None]
    found = compile_node(node)([*args, *constants])
    for a, b in zip(found, reference(*args), strict=True):
        assert a.dtype.name in node.operator.dtypes
        np.testing.assert_allclose(a, b, rtol=2e-3 if a.dtype == np.float16 else 1e-6)


def test_equal_operators_are_compiled_once() -> None:
    first, second, other = (call(lambda x, k=k: R.clip(x, 0, k), ((2, 3), F)) for k in (3, 3, 4))
    assert compile_node(first) is compile_node(second)
    assert compile_node(first) is not compile_node(other)
    assert compile_node(first) is not compile_node(first, (((5,), F),))


def test_the_function_of_a_call_tir_is_found_in_the_module() -> None:
    def twice(x: Any) -> Any:
        return te.compute(x.shape, lambda *i: x(*i) * 2.0)

    mod = module(lambda b, x: b.call_te(twice, x, primfunc_name_hint="twice"), ((2, 3), F))
    node = build_network(mod["main"], functions=mod).nodes[0]
    assert node.operator.op == "call_tir.twice"
    np.testing.assert_array_equal(compile_node(node)([np.ones((2, 3), F)])[0], np.full((2, 3), 2, F))
    with pytest.raises(CannotRunError, match="'twice' is not at hand; give build_network the module"):
        compile_node(build_network(mod["main"]).nodes[0])


def test_a_packed_function_runs_if_it_is_registered() -> None:
    @tvm.register_global_func("tesa.test.plus_one", override=True)
    def plus_one(x: Any, y: Any) -> None:
        y.copyfrom(x.numpy() + 1)

    out = relax.TensorType([3], F)
    node = call(lambda x: R.call_dps_packed("tesa.test.plus_one", x, out), ((3,), F))
    assert node.operator.op == "call_dps_packed.tesa.test.plus_one"
    np.testing.assert_array_equal(compile_node(node)([np.zeros(3, F)])[0], np.ones(3, F))
    absent = call(lambda x: R.call_dps_packed("tesa.test.absent", x, out), ((3,), F))
    with pytest.raises(CannotRunError, match=r"no function 'tesa.test.absent' is registered"):
        compile_node(absent)


@pytest.mark.parametrize(
    ("function", "types", "reason"),
    [
        (R.nonzero, [((3, 3), F)], "at run time only"),
        (R.exp, [((0, 3), F)], "no elements"),
        (lambda x: R.print(x, format="{}"), [((3,), F)], "side effect"),
        (lambda x: R.assert_op(x, x, format="{}"), [((), "bool")], "side effect"),
        (lambda x: R.call_inplace_packed("f", x, inplace_indices=[0], ty_args=[x.ty]), [((3,), F)], "side effect"),
    ],
)
def test_what_cannot_be_run_says_why(function: Any, types: Any, reason: str) -> None:
    with pytest.raises(CannotRunError, match=reason):
        compile_node(call(function, *types))


def test_pure_operators_have_no_side_effect() -> None:
    assert not has_side_effect(call(R.exp, ((3,), F)))
    assert has_side_effect(call(lambda x: R.print(x, format="{}"), ((3,), F)))


def test_no_index_and_no_divisor_can_crash_a_program() -> None:
    take = compile_node(call(lambda x, i: R.take(x, i, 0), ((3,), F), ((4,), "int64")))
    found = take([np.array([1, 2, 3], F), np.array([0, 2, 10**12, -(10**12)])])[0]
    np.testing.assert_array_equal(found, [1, 3, 3, 1])
    divide = compile_node(call(R.floor_divide, ((4,), "int32"), ((4,), "int32")))
    lowest = np.iinfo(np.int32).min
    found = divide([np.array([7, 7, lowest, -7], np.int32), np.array([2, 0, -1, -2], np.int32)])[0]
    assert found[0] == 3
    assert found[3] == 3
    modulo = compile_node(call(R.floor_mod, ((2,), "int32"), ((2,), "int32")))
    assert modulo([np.array([7, 7], np.int32), np.array([-1, 4], np.int32)])[0].tolist() == [0, 3]
    scatter = compile_node(call(lambda x, i, u: R.scatter_elements(x, i, u, 0), ((3,), F), ((1,), "int64"), ((1,), F)))
    assert scatter([np.zeros(3, F), np.array([999]), np.ones(1, F)])[0].sum() == 1


def test_the_code_is_read() -> None:
    (take,) = primfuncs(legalized(call(lambda x, i: R.take(x, i, 0), ((3,), F), ((4,), "int64")))).values()
    assert read(take).indirect
    assert read(take).places == {1}
    assert not read(bounded(take)).numbers
    (clip,) = primfuncs(legalized(call(lambda x: R.clip(x, 0, 7), ((3,), F)))).values()
    assert read(clip).numbers == (0, 7)
    assert read(clip).steps == 3


def test_a_whole_network_runs_and_tensors_can_be_changed() -> None:
    net = network(lambda b, x: b.emit(R.add(b.emit(R.exp(x)), relax.const(np.ones(2, F)))), ((2,), F))
    values = run_network(net, {"x0": np.zeros(2, F)})
    np.testing.assert_array_equal(values[net.outputs[0]], [2, 2])
    inner = net.nodes[0].outputs[0]
    changed = run_network(net, {"x0": np.zeros(2, F)}, lambda n, v: v * 5 if n == inner else v)
    np.testing.assert_array_equal(changed[net.outputs[0]], [6, 6])


def test_a_network_that_cannot_be_run_names_the_operator() -> None:
    net = network(lambda b, x: b.emit(R.call_dps_packed("tesa.test.absent", x, x.ty)), ((2,), F))
    with pytest.raises(CannotRunError, match=r"call_dps_packed.tesa.test.absent\): no function"):
        run_network(net, {"x0": np.zeros(2, F)})


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """TVM warns of pow(x, 3), of indices out of bounds, and of types that do not suit an operator."""
    take = call(lambda x, i: R.take(x, i, 0), ((3,), F), ((5,), "int64"))
    for node in (call(R.nn.gelu_tanh, ((2, 5), F)), take):
        compile_node(node)
    with pytest.raises(CannotRunError):
        compile_node(call(R.logical_not, ((2, 5), F)))
    assert capfd.readouterr() == ("", "")
