"""Propagation of TeSA over a whole model: `propagate`, `PropagateTeSA`, `rule`, `rules`."""

from tesa.propagate.model import TesaModel, WeightFacts, propagate
from tesa.propagate.registry import Operator, Rule, rule, rules
from tesa.propagate.relax_pass import PropagateTeSA

__all__ = ["Operator", "PropagateTeSA", "Rule", "TesaModel", "WeightFacts", "propagate", "rule", "rules"]
