"""Where results come from: the command, the versions of packages, and the machine."""

from __future__ import annotations

import functools
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("gradual", "torch", "lightning", "transformers", "torchmetrics", "jsonargparse", "numpy")


def command_line() -> str:
    """The command that runs, as it could be typed again."""
    program = Path(sys.argv[0])
    name = "gradual" if "gradual" in (program.name, program.parent.name) else str(program)
    return shlex.join([name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {package: _version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), **{name: text for name, text in found.items() if text is not None}}


@functools.cache  # results are written after every stage, and reading a package's metadata takes milliseconds
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """The machine: its system, processor and GPUs, and the threads that torch uses."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = f"{names[0]}, {len(names)} cores" if names else cpu
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"machine": platform.platform(), "cpu": cpu, "gpus": gpus, "threads": torch.get_num_threads()}
