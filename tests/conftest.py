"""What every test runs under: hypothesis draws the same examples each time, torch computes on one thread."""

from __future__ import annotations

import torch
from hypothesis import settings

settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
settings.load_profile("same every time")
torch.set_num_threads(1)
