"""Propagation of TeSA over a whole model: `propagate`, `PropagateTeSA`, `rule`, `rules`."""

from tesa.propagate.model import TesaModel, WeightFacts, propagate
from tesa.propagate.relax_pass import PropagateTeSA
from tesa.propagate.registry import Operator, Rule, rule, rules

__all__ = ["Operator", "PropagateTeSA", "Rule", "TesaModel", "WeightFacts", "propagate", "rule", "rules"]
