"""Commands of a task on the files of a folder, as fast as they can be."""

from gradual.__main__ import main

FILES = {"in_domain": "train", "out_of_domain": "pool", "val": "dev", "test": "test"}


def command(name, folder, run_dir, *more, family, form=""):
    """Call a command with the files of a folder, whose names begin with ``form``, and a pretrained model in it."""
    files = [f"--data.{part}={folder}/{form}{file}.jsonl" for part, file in FILES.items()]
    fast = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--schedule=[2, 0]", "--trainer.logger=false"]
    own = [f"--model.pretrained={folder}/{family}", f"--data.cache_dir={folder}/cache", "--data.num_proc=1"]
    main([name, *files, *fast, *own, f"--run_dir={run_dir}", *more])
