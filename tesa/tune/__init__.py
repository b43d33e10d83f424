"""Builds, checks, measures and records candidates, for compiling and for tuning."""
