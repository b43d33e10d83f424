"""Measurements as records in logs: read, looked up, written, kept in order."""
