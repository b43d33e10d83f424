"""Branches, loops and sequences: what is known at import becomes plain nodes, other loops stay loops."""
