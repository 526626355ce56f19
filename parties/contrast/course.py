"""What all seats derive from the file, each by itself: the stages, their batches, and the state that is kept of the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from fedsim import tensors
from fedsim.contrast.views import Augmentation
from fedsim.message import RoleId
from fedsim.seeding import Rng
from fedsim.vfl.network import Through
from fedsim.vfl.schedule import Sampling, Schedule, Turn
from parties.contrast import Finetuning, Pieces, Robustness, Threat
from parties.pretraining import Pretraining


@dataclass(frozen=True)
class Course:
    """The stages of a run.

    Attributes:
        pretraining: None: bottoms start from where they are.
        batch, steps, sampling, warmup: of the pre-training.
        precision: of the passes of all networks.
        pieces: where the state of the pre-training is kept, or None.
        public: the node of batches and views.
    """

    pretraining: Pretraining | None
    finetuning: Finetuning
    robustness: Robustness
    threat: Threat
    augmentation: Augmentation
    batch: int
    steps: int
    sampling: Sampling
    warmup: int
    precision: Literal["float32", "bfloat16"]
    pieces: Pieces | None
    public: Rng

    @property
    def through(self) -> Through | None:
        """How inputs pass a network."""
        return mixed if self.precision == "bfloat16" else None

    def pretraining_turns(self, rows: int, done: int) -> Iterator[Turn]:
        """The turns of this run's piece of the pre-training, from step ``done`` on."""
        schedule = Schedule(
            self.public.child("pretraining"), rows, 0, self.batch, self.steps, self.steps, self.sampling
        )
        return (turn for turn in schedule.turns() if done <= turn.index < self.end(done))

    def finetuning_turns(self, rows: int) -> Iterator[Turn]:
        """The turns of the fine-tuning."""
        steps, batch = self.finetuning.steps, min(self.finetuning.batch, rows)
        return Schedule(self.public.child("finetuning"), rows, 0, batch, steps, steps).turns()

    def end(self, done: int) -> int:
        """The step at which this run ends its pre-training."""
        piece = self.pieces.piece if self.pieces else None
        return self.steps if piece is None else min(self.steps, done + piece)

    def labelled(self, index: int) -> bool:
        """Whether pseudo-labels are known at a step of the pre-training."""
        return self.pretraining is not None and self.clustered_at is not None and index >= self.clustered_at

    @property
    def clustered_at(self) -> int | None:
        """The step of the pre-training before which rows are clustered."""
        pseudo = self.pretraining.pseudo if self.pretraining else None
        if pseudo is None:
            return None
        return 0 if pseudo.of == "components" else round(pseudo.start * self.steps)


def mixed(module: nn.Module, inputs: Tensor) -> Tensor:
    """A pass in bfloat16 where that is safe, its output in float32."""
    with torch.autocast(inputs.device.type, torch.bfloat16):
        output: Tensor = module(inputs)
    return output.float()


class Kept:
    """What a seat keeps of its pre-training in a file: its tensors, and how many steps are behind it."""

    def __init__(self, plan: Pieces | None, role: RoleId, tensors: Mapping[str, Tensor]) -> None:
        self._plan, self._tensors = plan, dict(tensors)
        self._done = torch.zeros((), dtype=torch.int64)
        self._path = Path(plan.folder) / f"{role}.safetensors" if plan else Path()

    def restore(self) -> int:
        """Take over what an earlier run left; how many steps are behind this seat.

        Raises:
            OutputError: the file holds other tensors.
        """
        if self._plan and self._path.exists():
            tensors.restore(self._path, {**self._tensors, "done": self._done})
        return int(self._done)

    def note(self, done: int, end: int) -> None:
        """Write the state after ``done`` steps, where one is due."""
        if self._plan and (done % self._plan.every == 0 or done == end):
            tensors.store(self._path, {**self._tensors, "done": self._done.fill_(done)})
