"""What a training step takes again and again is not given back to the system in between."""

import os
import subprocess
import sys

import pytest

PAGES = """
import resource
import torch
{}

def step():
    kept = [torch.ones(3, 2**18) for _ in range(40)]  # 3 MB each, all given back at the end
    return sum(float(x[0, 0]) for x in kept)

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(3):
    step()
before = pages()
for _ in range(10):
    step()
print(pages() - before)
"""


def pages(code: str, **variables: str) -> int:
    """How many pages the system had to clear in ten steps."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "THP_"))}
    command = [sys.executable, "-c", PAGES.format(code)]
    return int(subprocess.run(command, env=ours | variables, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's C library is told")
def test_what_a_step_takes_is_kept_for_the_next():
    module = "import gradual.packing"
    assert pages(module) < 1_000
    least = {"MALLOC_TRIM_THRESHOLD_": "0", "THP_MEM_ALLOC_ENABLE": "0"}
    assert pages(module, **least) > 100_000, "a user's own settings hold"
