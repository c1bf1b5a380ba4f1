"""The tasks: one package each, knowing nothing of stages, schedules or each other."""
