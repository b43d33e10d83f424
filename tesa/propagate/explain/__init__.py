"""explain: the chain of facts that leads from a layer back to where each fact comes from."""

from tesa.propagate.explain.explanation import DEPTH, Explanation, Fact, describe, explain

__all__ = ["DEPTH", "Explanation", "Fact", "describe", "explain"]
