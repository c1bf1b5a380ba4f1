"""What a training step takes again and again is not given back to the system in between."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slow_cases import fast_one_in

PAGES = """
import os
import resource
import sys
import torch
from gradual.nn.fast_cpu import keep_memory

def step():
    kept = [torch.ones(size, 2**18) for size in (3, 20, 46)]  # so many MB, all given back at the end
    return sum(float(x[0, 0]) for x in kept)

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for code in sys.argv[1:]:
    if os.fork() == 0:  # importing takes seconds
        exec(code)
        for _ in range(8):
            step()
        before = pages()
        for _ in range(10):
            step()
        print(pages() - before, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux's C library is told"),
    pytest.mark.skipif(HUGE.exists() and "[always]" in HUGE.read_text(), reason="the system's pages are huge"),
]


def pages(*prepared: str, **variables: str) -> list[int]:
    """How many pages the system had to clear in ten steps, in processes that were prepared by some code."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PAGES, *prepared]
    run = subprocess.run(command, env=ours | variables, capture_output=True, text=True, check=True)
    return list(map(int, run.stdout.split()))


@pytest.mark.slow
def test_memory_freed_by_a_step_is_kept_for_the_next():
    kept, plain, turned_off = pages("keep_memory()", "", "os.environ['GRADUAL_FAST_CPU'] = '0'; keep_memory()")
    assert kept < 1_000
    assert plain > 50_000, "without it"
    assert turned_off > 50_000


LARGE = """
from gradual.nn.fast_cpu import return_large_tensors
keep_memory()
return_large_tensors(torch.nn.Linear(1024, 2**14 + {more}, bias=False, device="meta"))  # of 64 MB and more
"""


@pytest.mark.slow
def test_only_large_tensors_of_large_models_are_given_back():
    small, large = pages(LARGE.format(more=0), LARGE.format(more=1))
    assert small < 1_000
    assert 46 * 256 * 10 <= large < 50 * 256 * 10, "the largest tensor of ten steps, 256 pages a megabyte"


@pytest.mark.slow
@pytest.mark.parametrize("said", [{"MALLOC_TRIM_THRESHOLD_": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}])
def test_environment_variables_of_the_allocator_take_precedence(said):
    (cleared,) = pages("keep_memory()", **said)
    assert cleared > 50_000


RELEASED = """
from pathlib import Path
from gradual.stage.memory import stage_memory

def resident():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) // 1024

with stage_memory():
    before = resident()
    pieces = [b"x" * size for size in (2**22, 2**10) * 50]
    del pieces[::2]
    inside = resident()
print(inside - before, resident() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment", fast_one_in(2, [{}, {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**29)}])
)
def test_free_memory_between_pieces_in_use_is_returned_after_a_stage_unless_the_environment_keeps_it(environment):
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", RELEASED]
    run = subprocess.run(command, env=ours | environment, capture_output=True, text=True, check=True)
    inside, after = map(int, run.stdout.split())
    assert inside > 190, "MB; kept for the next step"
    assert after > 190 if environment else after < 20
