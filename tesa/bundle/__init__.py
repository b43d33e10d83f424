"""Gathers in one folder all that an application needs beside a compiled model."""
