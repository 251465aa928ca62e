"""Freed memory stays with the process while it trains, and is given back afterwards."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch

from harness.training.allocator import kept_memory

MIB = 2**20
BLOCK = torch.Size([24 * MIB // 4])

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists() or sys.platform != "linux", reason="Linux with glibc"
)


def touched_pages() -> int:
    """Pages that the system had to hand out for eight blocks, one after another."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(BLOCK)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_block_is_not_handed_out_anew_each_time():
    with kept_memory():
        kept = touched_pages()
    assert touched_pages() > 3 * kept


def test_what_is_free_is_given_back():
    before = resident_bytes()
    with kept_memory():
        blocks = [torch.ones(BLOCK) for _ in range(8)]
        del blocks
        assert resident_bytes() > before + 100 * MIB
    assert resident_bytes() < before + 40 * MIB
