"""Folders with what an application needs."""
