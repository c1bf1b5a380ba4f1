"""Workers that are told to stop while one of them trains and the other one waits for a stage; FOLDER is for marks."""

import signal
import sys
import time
from pathlib import Path

from gradual.experiment.executors import worker_processes
from gradual.stage.interruption import Interrupted, defer, requested


class Stages:
    """The stages ``first`` and ``second`` need a worker each; ``long`` trains until it is told to stop."""

    def train(self, node):
        folder, name = Path(node).parent, Path(node).name
        Path(node).touch()
        if name == "long":
            defer(True)
            while not requested():
                time.sleep(0.05)
            time.sleep(0.5)  # it saves what it has
            (folder / "saved").touch()
            raise Interrupted(requested())
        while not ((folder / "first").exists() and (folder / "second").exists()):
            time.sleep(0.05)


def main(folder: Path) -> None:
    with worker_processes(Stages, 2) as submit:
        for future in [submit(str(folder / "first")), submit(str(folder / "second"))]:
            future.result()
        submit(str(folder / "long"))
        while not (folder / "long").exists():
            time.sleep(0.05)
        raise Interrupted(signal.SIGTERM)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Interrupted:
        print("ended")
