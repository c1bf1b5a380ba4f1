"""Run directories: what lies on disk, and whether it is sound."""
