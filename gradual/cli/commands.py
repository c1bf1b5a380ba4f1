"""The commands that run through LightningCLI, and what each does; imports nothing, so that ``--help`` is quick."""

LIGHTNING_COMMANDS = {
    "fit": "train all stages of a schedule, or go on with what was interrupted",
    "compare": "train several strategies under several seeds, each stage once, and report",
    "plan": "print what each stage would train on, without training",
    "stats": "print the sizes of the data",
    "validate": "validation scores of a stage's checkpoint",
    "test": "test scores of a stage's checkpoint",
    "predict": "write a checkpoint's predictions as JSON lines",
}
