"""How a victim's model comes about: trained at its seat, on request against perturbed or transformed images, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedsim import tensors
from fedsim.errors import OutputError
from fedsim.minmax.balls import Ball
from fedsim.minmax.pgd import climb
from fedsim.minmax.transforms import TRANSFORMS, Transform
from fedsim.plugins import Settings
from fedsim.seeding import Rng
from fedsim.vfl.network import Network, gradients
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Schedule, Turn

CACHE = "FEDSIM_CACHE"
"""The environment variable that names the folder of trained models, by default ``~/.cache/fedsim``; ``off``: none is kept."""


class Training(Settings):
    """How one model is trained."""

    epochs: int = Field(3, ge=1, description="passes over the training rows")
    batch: int = Field(64, ge=1, description="rows a step")
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="updates the model")
    against: Ball | None = Field(
        None, description="adversarial training: each batch is first moved in this ball to where its loss is larger"
    )
    steps: int = Field(5, ge=1, description="of that move")
    transforms: tuple[Transform, ...] = Field(
        (), description="each batch is first put through one of these, drawn; none: as it is"
    )


def train(network: Network, x: Tensor, labels: Tensor, plan: Training, rng: Rng, tell: Callable[[float], None]) -> None:
    """Train on rows ``x`` (N, C, H, W) in [0, 1] and their labels (N,); ``tell`` is called with the share that is done."""
    optimiser = plan.optimiser.build(network.trained)
    steps = plan.epochs * -(-len(x) // plan.batch)
    for turn in Schedule(rng.child("schedule"), len(x), 0, min(plan.batch, len(x)), steps, steps).turns():
        rows, target = x.index_select(0, turn.rows), labels.index_select(0, turn.rows)
        if plan.transforms:
            drawn = int(rng.child("transform", turn.index).numpy().integers(len(plan.transforms)))
            rows = TRANSFORMS[plan.transforms[drawn]](rows)
        if plan.against is not None:
            rows = climb(rows, _Uphill(network, turn, target), plan.against, plan.steps)
        loss = functional.cross_entropy(network.train(rows, turn), target)
        optimiser.step(network.pull_back(loss)[1])
        if turn.index % 50 == 0:
            tell(turn.index / steps)
    tell(1.0)


class _Uphill:
    """The gradient of a batch's cross-entropy with respect to its rows."""

    def __init__(self, network: Network, turn: Turn, target: Tensor) -> None:
        self._network, self._turn, self._target = network, turn.held(), target

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.detach().requires_grad_()
        loss = functional.cross_entropy(self._network.train(rows, self._turn), self._target)
        return gradients(loss, [rows])[0]


def key(model: Any, training: Training, data: Any, data_digest: str, rng: Rng) -> str:
    """SHA-256 of all that a trained model follows from: settings, data, the seat's own randomness, this build and machine."""
    about = {
        "model": model,
        "training": training.model_dump(mode="json"),
        "data": data,
        "content": data_digest,
        "rng": rng.key.hex(),
        "torch": torch.__version__,
        "machine": [platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def place(digest: str) -> Path | None:
    """Where a trained model lies on this machine, if it was trained here before."""
    home = os.path.expanduser("~")  # stays "~" where the system knows no home of this user
    folder = os.environ.get(CACHE, "") or (os.path.join(home, ".cache", "fedsim") if os.path.isabs(home) else "off")
    return None if folder == "off" else Path(folder) / f"{digest}.safetensors"


def restore(network: Network, digest: str) -> bool:
    """Take over the tensors that were kept under this digest; whether there were any that fit."""
    path = place(digest)
    if path is None:
        return False
    try:
        tensors.restore(path, network.tensors)
    except OutputError:  # not there, of another model, damaged: it is trained anew
        return False
    return True


def keep(network: Network, digest: str) -> None:
    """Keep parameters and buffers; where nothing can be written, they are not kept."""
    if path := place(digest):
        with suppress(OSError):
            tensors.store(path, network.tensors)
