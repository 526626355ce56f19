"""Models of a user's own whose state is more than trained parameters, as a plug-in in a folder of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

WAYS = (
    "batch norm",
    "kept statistics",
    "instance norm",
    "spectral norm",
    "counter",
    "frozen layer",
    "all frozen",
    "unused",
    "alpha dropout",
    "function draws",
    "always draws",
    "recurrent",
)
"""What `Stateful` can be."""

SOURCE = '''\
"""Bottoms and tops with state."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedsim.models import ModelConfig


class _Recurrent(nn.Module):
    """Reads a row number by number, with dropout inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(1, 6, num_layers=2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[..., None])[0][:, -1]


class _Noise(nn.Module):
    """Draws without a dropout layer: always, or in training only."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x) if self.always else functional.dropout(x, 0.3, self.training)


class _Counter(nn.Module):
    """Counts its training passes, keeps a running mean of its own, and shifts by it in evaluation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("passes", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("start", torch.randn(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes = self.passes + 1
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=0)
        return x - self.mean + self.start * torch.sigmoid(self.passes - 4.0)


class Stateful(ModelConfig):
    """A small network with something besides trained parameters."""

    way: str = Field("batch norm", description="what it has")

    def build(self, shape: tuple[int, ...], out: int) -> nn.Sequential:
        """See `ModelConfig.build`."""
        if len(shape) == 3:
            conv, norm, pool = nn.Conv2d(shape[0], 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2)
            return nn.Sequential(conv, norm, nn.ReLU(), pool, nn.Flatten(), nn.Linear(16, out))
        first = nn.Linear(shape[0], 6)
        layers = [first, nn.ReLU(), nn.Linear(6, out)]
        if self.way in ("batch norm", "kept statistics"):
            layers.insert(1, nn.BatchNorm1d(6))
        if self.way == "kept statistics":
            layers[1].running_mean.fill_(0.5)
            layers[1].eval().requires_grad_(False)
        if self.way == "instance norm":
            layers[:1] = [first, nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()]
        if self.way == "spectral norm":
            nn.utils.parametrizations.spectral_norm(first)
        if self.way == "counter":
            layers.insert(1, _Counter(6))
        if self.way == "frozen layer":
            first.requires_grad_(False)
        if self.way == "all frozen":
            for layer in layers:
                layer.requires_grad_(False)
        if self.way == "unused":
            first.register_parameter("spare", nn.Parameter(torch.ones(2)))
        if self.way == "alpha dropout":
            layers.insert(2, nn.AlphaDropout(0.2))
        if self.way in ("function draws", "always draws"):
            layers.insert(2, _Noise(self.way == "always draws"))
        if self.way == "recurrent":
            layers[:2] = [_Recurrent()]
        return nn.Sequential(*layers)
'''


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the plug-in where this process and its children find it; returns its file."""
    about = folder / "stateful-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stateful\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[fedsim.models]\nstateful = stateful\n")
    (folder / "stateful.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "stateful", raising=False)
    here = Path(__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(here)]))
    return folder / "stateful.py"
