"""Propagation of TeSA over a whole model: `propagate`, `PropagateTeSA`, `rule`, `rules`.

What a rule is written with is in `common`.
"""

from tesa.propagate.model import TesaModel, WeightFacts, as_given, propagate
from tesa.propagate.registry import Operator, Rule, remove_rule, rule, rule_scope, rules
from tesa.propagate.relax_pass import PropagateTeSA
from tesa.propagate.rules import common

__all__ = [
    "Operator", "PropagateTeSA", "Rule", "TesaModel", "WeightFacts", "as_given", "common", "propagate",
    "remove_rule", "rule", "rule_scope", "rules",
]  # fmt: skip
