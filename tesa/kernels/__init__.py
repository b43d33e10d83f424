"""One kernel at a time, for notebooks."""
