"""What kernels cost on targets that this machine is not: executed instructions, and times where an engine runs here."""
