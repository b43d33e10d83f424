"""propagate: a model with the facts about each of its tensors, and what they mean for each weight."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tesa.attributes.attribute import Origin, TeSA, Values, from_mask, from_quantization
from tesa.base.display import Displayed, picture
from tesa.errors import UsageError
from tesa.frontend.guard import guarded
from tesa.frontend.model import ImportedModel
from tesa.propagate.effective_weights import effective_constants, with_constants
from tesa.propagate.engine import Fixpoint, solve, start
from tesa.propagate.fold import Fold, fold, fold_by_channel
from tesa.propagate.network import Network, Node, whole_network
from tesa.propagate.registry import Operator
from tesa.propagate.rules.conv import PLAIN, TRANSPOSED
from tesa.propagate.user_facts import check_facts, merge_named

WEIGHT_OPS = ("relax.matmul", *PLAIN, *TRANSPOSED)


@dataclass(frozen=True, eq=False)
class WeightFacts(Displayed):
    """A layer with a constant weight and what propagation has found about it.

    var, argument: the call and the place of the weight in it; var is also the name of its output. input, tensor:
    the names of the activation and of the weight in TesaModel.tesa. weight: as in the module. effective_weight: the
    same with every dead element set to 0. It may take the place of `weight` in all layers at once, with everything
    else left as it is, and no output of the model changes. facts: sentences for `tesa explain`.
    """

    layer: str
    op: str
    var: str
    argument: int
    input: str
    tensor: str
    weight: Values
    effective_weight: Values
    given_sparsity: float
    sparsity: float
    facts: tuple[str, ...]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.weight.shape))
        return f"WeightFacts({self.layer}: {self.op} {shape}, {self.given_sparsity:.1%} -> {self.sparsity:.1%} sparse)"


@dataclass(frozen=True, eq=False)
class TesaModel(Displayed):
    """A module with its facts. tesa: by variable; part i of a tuple is `var.i`, argument i that is a constant `var#i`.

    weights: by the variable that a layer's convolution or matmul is bound to, in running order. unruled: layers whose
    operator has no rule, with the operator: all around them counts as live and unknown. steps: visits it took.
    scrambled: layers whose operator has no rule and was run on random numbers instead. notes: for the layers in one of
    the two, the reason.
    """

    imported: ImportedModel
    mod: Any
    tesa: Mapping[str, TeSA]
    weights: Mapping[str, WeightFacts]
    unruled: Mapping[str, str]
    steps: int
    network: Network = field(repr=False)
    scrambled: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"TesaModel({len(self.tesa)} tensors, {len(self.weights)} weights, {len(self.unruled)} without a rule)"

    def plot(self, path: str | Path | None = None) -> Any:
        """A picture of the zeros and bits of each layer, before and after. path: where to write it (.png, .svg, .pdf).

        UsageError for a model without weights, and without matplotlib.
        """
        return picture(self, path=path)

    def folded(self, var: str) -> tuple[Values, Values] | None:
        """(weight, shift): known constant channels of the input moved out of the layer `var`, None if there are none.

        The weights of those channels become 0 and what they contribute, `shift` of shape (outputs,), is to be added to
        each output channel. For a layer x @ W and for a 2-D convolution where that is one number for each channel;
        `fold` has no such limits.
        """
        layer = self.weights[var]
        return fold_by_channel(self._operator(var), layer.argument, self.tesa[layer.input], layer.effective_weight)

    def fold(self, var: str) -> Fold | None:
        """The layer `var` with the known constant channels of its input moved out of it, None if there are none.

        Any convolution or matmul in `weights`: the layer with Fold.weight, plus Fold.shift, is the layer with its
        effective weight, right at every live element. Infinite values are not folded.
        """
        layer = self.weights[var]
        return fold(self._operator(var), layer.argument, self.tesa[layer.input], layer.effective_weight)

    def effective_constants(self) -> dict[str, Values]:
        """The weights of which elements are dead but not 0, with 0 there, by the names of `tesa`.

        These are the effective weights, and those of operators that are in no row of `weights`, as einsum and take. All
        have to take their places together: what is dead may lean on any of them.
        """
        return effective_constants(self.network, self.tesa)

    def effective_module(self) -> Any:
        """`mod` with the effective constants in place. No output changes."""
        return with_constants(self.mod, self.effective_constants())

    def _operator(self, var: str) -> Operator:
        return next(node.operator for node in self.network.nodes if node.var == var)


def propagate(
    imported: ImportedModel, *, given: Mapping[str, TeSA] | None = None, seed: int | None = None
) -> TesaModel:
    """Find all facts about all tensors of a model.

    given: further facts, by the names of TesaModel.tesa: the user's own. seed: visit in random order (for tests; the
    result is the same). ContradictionError if facts disagree.

    >>> from importlib.resources import files
    >>> from tesa.frontend import import_onnx
    >>> propagate(import_onnx(str(files("tesa.models") / "digits.onnx"))).weights["block2_pointwise"]
    WeightFacts(block2.pointwise: relax.nn.conv2d 128x64x1x1, 90.0% -> 90.0% sparse)
    """
    if not isinstance(imported, ImportedModel):
        raise UsageError(
            f"propagate takes what tesa.import_onnx returns, not {type(imported).__name__}; import the file first"
        )
    with guarded(imported.source or "the module", "propagated"):
        net = whole_network(imported.mod, imported.names)
        known = _from_file(imported, net)
        for name, facts in check_facts(net, given or {}).items():
            known[name] = merge_named(net, name, known[name], facts) if name in known else facts
        return _model(imported, net, solve(net, known, seed=seed))


def as_given(imported: ImportedModel) -> TesaModel:
    """The model with what the file and the user's masks say, and nothing found out: the opposite of `propagate`."""
    net = whole_network(imported.mod, imported.names)
    return _model(imported, net, start(net, _from_file(imported, net)))


def _model(imported: ImportedModel, net: Network, found: Fixpoint) -> TesaModel:
    tesa = {**found.tesa, **{alias: found.tesa[name] for alias, name in net.aliases.items()}}
    weights = {f.var: f for f in (_weight_facts(node, net, found) for node in net.nodes) if f is not None}
    mod = _attach(imported.mod, tesa)
    return TesaModel(imported, mod, tesa, weights, found.unruled, found.steps, net, found.scrambled, found.notes)


def _from_file(imported: ImportedModel, net: Network) -> dict[str, TeSA]:
    """The facts about weights that the file and the user's masks give."""
    facts: dict[str, TeSA] = {}
    uses = {(u.var, u.argument): (name, u) for name, all_uses in imported.weights.items() for u in all_uses}
    for (var, argument), (initializer, use) in uses.items():
        key = f"{var}#{argument}"
        if key in net.shapes and initializer in imported.masks:
            mask = imported.masks[initializer]
            turned = mask if use.axes is None else np.transpose(mask, use.axes)
            facts[key] = from_mask(turned, Origin("value", "user"))
    for (var, argument), quantization in imported.quantization.items():
        key = f"{var}#{argument}"
        if key in net.shapes:
            new = from_quantization(net.shapes[key], quantization)
            old = facts.get(key, new)
            origins = old.origins | new.origins
            facts[key] = replace(old, bits=new.bits, quantization=new.quantization, origins=origins)
    return facts


def _weight_facts(node: Node, net: Network, found: Fixpoint) -> WeightFacts | None:
    if node.operator.op not in WEIGHT_OPS or len(node.inputs) != 2:
        return None
    constant = [i for i, name in enumerate(node.inputs) if name in net.constants]
    if len(constant) != 1:
        return None
    argument = constant[0]
    tensor, source = node.inputs[argument], node.inputs[1 - argument]
    weight, facts = net.constants[tensor], found.tesa[tensor]
    gone = (facts.dead | facts.zero) & (weight != 0)
    effective = np.where(gone, weight.dtype.type(0), weight) if gone.any() else weight  # large, and mostly the same
    zeros = weight.size - int(np.count_nonzero(weight))
    given, now = (count / max(weight.size, 1) for count in (zeros, zeros + int(np.count_nonzero(gone))))
    return WeightFacts(
        node.operator.layer, node.operator.op, node.var, argument, source, tensor, weight, effective, given, now,
        _sentences(found, tensor, source, node.outputs[0], given, now),
    )  # fmt: skip


def _sentences(found: Fixpoint, tensor: str, source: str, output: str, given: float, now: float) -> tuple[str, ...]:
    lines = [f"weight: {given:.2%} zero as given"]
    if now > given:
        why = found.tesa[tensor].because("live")
        lines.append(f"weight: {now:.2%} zero after propagation{why}")
    lines += [f"weight: {fact}" for fact in found.tesa[tensor].facts() if "bits" in fact]
    for what, name in (("input", source), ("output", output)):
        lines += [f"{what}: {fact}" for fact in found.tesa[name].facts()]
    return tuple(lines)


def summary(tesa: Mapping[str, TeSA]) -> dict[str, str]:
    """One line for each tensor about which something is known; that a bias is a constant goes without saying."""
    return {
        name: str(facts)
        for name, facts in tesa.items()
        if not facts.trivial and not ("#" in name and facts.known.all() and facts.live.all())
    }


def _attach(mod: Any, tesa: Mapping[str, TeSA]) -> Any:
    """The module with the facts in words as attribute "tesa" of its main function. The input stays as it is."""
    new = mod.clone()
    new["main"] = new["main"].with_attr("tesa", summary(tesa))
    return new
