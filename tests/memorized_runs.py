"""A generative task that has learnt a few rows by heart: what it says of them is known."""

import gradual


def memorize(model, datamodule, run_dir, epochs):
    """The only stage of a run that ends with the last epoch, and the model as its checkpoint has it."""
    settings = {"max_epochs": epochs, "check_val_every_n_epoch": epochs, "optimizer": {"lr": 1e-2}, "patience": 9}
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    (stage,) = gradual.fit(model, datamodule, (0,), run_dir, **settings, **quiet).stages
    return stage, type(model).load_from_checkpoint(run_dir / stage.path / "best.ckpt")
