"""What every test runs under: hypothesis draws the same examples each time, torch computes on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from fedsim.sweep.tune import session

settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
settings.load_profile("same every time")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _numbers_as_python_knows_them() -> None:
    """Playing a seat flushes denormals for the rest of the process; a test of floats must not depend on what ran before."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The one Ray of all tests that need it, on this machine only."""
    with session(cpus=4):
        yield
