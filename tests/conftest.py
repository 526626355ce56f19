"""What every test runs under: hypothesis draws the same examples each time, torch computes on one thread."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
settings.load_profile("same every time")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _numbers_as_python_knows_them() -> None:
    """Playing a seat flushes denormals for the rest of the process; a test of floats must not depend on what ran before."""
    torch.set_flush_denormal(False)
