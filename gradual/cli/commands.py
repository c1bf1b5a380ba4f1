"""The commands that run through LightningCLI, and what each does; without imports, so that ``--help`` is fast."""

LIGHTNING_COMMANDS = {
    "fit": "train all stages of a schedule, or resume where it was interrupted",
    "compare": "train several strategies with several seeds, and write a report",
    "search": "search for a schedule within a budget, and confirm the best under fresh seeds",
    "plan": "print what each stage would train on, without training",
    "stats": "print the sizes of the data",
    "sample": "write the examples of each stage as JSON lines, for other trainers",
    "validate": "print the validation scores of a checkpoint",
    "test": "print the test scores of a checkpoint",
    "predict": "write the predictions of a checkpoint as JSON lines",
}

WITH_STAGE = ("validate", "test", "predict")
"""Those that take a stage in place of ``--config`` and ``--ckpt_path``."""
