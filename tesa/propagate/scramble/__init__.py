"""Tensor scrambling: facts about an operator without a rule, found by running it on random numbers."""
