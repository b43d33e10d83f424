"""Targets: what code is generated for, by the names that users write."""
