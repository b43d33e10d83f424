"""Answers questions about a model that need no compiled code."""
