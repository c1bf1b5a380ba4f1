"""One stage: one Trainer.fit to convergence."""
