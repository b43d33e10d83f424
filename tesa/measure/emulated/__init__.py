"""Compares code for another architecture with NumPy, under an emulator of programs. Its times say nothing of a CPU."""
