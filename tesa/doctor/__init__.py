"""Examines the machine and the installation."""
