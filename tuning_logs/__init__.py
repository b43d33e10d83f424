"""Measured records that ship with tesa, one file for each device."""
