"""The experiment of a Python program, pickled for the worker processes of ``gradual.compare(jobs=...)``."""

from __future__ import annotations

import functools
import io
import multiprocessing
import pickle
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradual.errors import InputError
from gradual.experiment.executors import MakeExperiment, Trains, check_one_device
from gradual.logging import quieten


@contextmanager
def pickled(make: MakeExperiment, parts: Mapping[str, Any], jobs: int) -> Iterator[MakeExperiment]:
    """Pickle ``make`` into a temporary file for all workers, and yield what makes the experiment from it.

    A file, because starting a process with much data blocks for ever if the process ends before it reads them. Tensors
    go by value and not to shared memory, which may be small.

    Args:
        make: Makes the experiment.
        parts: The arguments that ``make`` has from the user, by name.
        jobs: The number of workers.

    Raises:
        InputError: One of the parts cannot be pickled, a stage would have several devices, or this process is itself
            a worker that imports the user's script.
    """
    check_one_device(parts.get("devices", "auto"), parts.get("num_nodes", 1))
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # where multiprocessing itself looks
        raise InputError(
            f"With jobs={jobs} each worker imports this script: call gradual.compare under `if __name__ == "
            "'__main__':`, so that the workers do not call it again."
        )
    for name, part in parts.items():
        try:
            _dump(part)
        except Exception as error:  # pickling anything may raise anything
            what = "a function or class of a module, or a functools.partial of one" if name == "model" else "picklable"
            raise InputError(
                f"{name} cannot be sent to the workers of jobs={jobs} ({' '.join(str(error).split())}): it must be "
                f"{what}."
            ) from error
    with tempfile.TemporaryDirectory(prefix="gradual-") as folder:
        path = Path(folder) / "experiment.pickle"
        path.write_bytes(_dump(make))
        yield functools.partial(_unpickled, path)


def _unpickled(path: Path) -> Trains:
    """Make the experiment in a worker."""
    quieten()
    experiment: Trains = pickle.loads(path.read_bytes())()
    return experiment


def _dump(value: Any) -> bytes:
    content = io.BytesIO()
    _Pickler(content).dump(value)
    return content.getvalue()


class _Pickler(pickle.Pickler):
    """Refuses functions and classes that a worker could not import."""

    def reducer_override(self, value: Any) -> Any:
        """Look at the functions and classes that are pickled by their names."""
        script = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
        if isinstance(value, type | types.FunctionType) and value.__module__ == "__main__" and not script.is_file():
            raise pickle.PicklingError(f"{value.__qualname__} is defined in a notebook or an interactive session")
        return NotImplemented
