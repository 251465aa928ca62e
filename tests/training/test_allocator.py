"""Freed memory stays with the process while it trains, and is given back afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux with glibc")

MEASURE = """
import resource
from pathlib import Path
import torch
from harness.training.allocator import kept_memory

numbers = 40 * 2**20 // 4  # 40 MiB: more than glibc ever keeps by itself

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(numbers)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20

torch.ones(numbers)
usual, before = new_pages(), resident()
with kept_memory():
    blocks = [torch.ones(numbers) for _ in range(8)]
    del blocks
    held = resident()
    # the system may take pages from any process now and then, but not each time
    kept = min(new_pages() for _ in range(3))
print(usual, kept, held - before, resident() - before)
"""


def test_freed_memory_is_kept_inside_and_given_back_outside():
    # in a process of its own: what others have allocated before decides what glibc does
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usual, kept, held_mib, left_mib = map(int, done.stdout.split())
    assert usual > 3 * max(kept, 1), "pages that the system handed out for eight blocks"
    assert held_mib > 200
    assert left_mib < 100
