"""Turns generated code into object files and libraries, in parallel and through a cache."""
