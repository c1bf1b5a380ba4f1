"""The tasks, one package each. They do not depend on stages, schedules or each other."""
