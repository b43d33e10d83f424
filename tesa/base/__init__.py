"""Files, child processes, progress and the machine: what every other room stands on."""
