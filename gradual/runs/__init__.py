"""Run directories: what is on disk, which experiment it belongs to, and whether it is intact."""
