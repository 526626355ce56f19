"""What all seats derive from the file, each by itself: the stages and their batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fedsim.contrast.views import Augmentation
from fedsim.parties.contrast import Finetuning, Robustness, Threat
from fedsim.parties.features import Talk
from fedsim.parties.pretraining import Pretraining
from fedsim.seeding import Rng
from fedsim.vfl.network import Through
from fedsim.vfl.schedule import Sampling, Schedule


@dataclass(frozen=True)
class Course:
    """The stages of a run.

    Attributes:
        pretraining: None: bottoms start from where they are.
        batch, steps, sampling, warmup: of the pre-training.
        precision: of the passes of all networks.
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
    public: Rng

    @property
    def through(self) -> Through | None:
        """How inputs pass a network."""
        return mixed if self.precision == "bfloat16" else None

    @property
    def before(self) -> int:
        """Training steps before the fine-tuning."""
        return self.steps if self.pretraining else 0

    def pretraining_schedule(self, rows: int) -> Schedule:
        """The turns of the pre-training."""
        return Schedule(self.public.child("pretraining"), rows, 0, self.batch, self.steps, self.steps, self.sampling)

    def finetuning_schedule(self, rows: int) -> Schedule:
        """The turns of the fine-tuning."""
        steps, batch = self.finetuning.steps, min(self.finetuning.batch, rows)
        return Schedule(self.public.child("finetuning"), rows, 0, batch, steps, steps)

    def talk(self, rows: int) -> Talk:
        """What is said in a step of the first stage that trains, of so many training rows, once there are pseudo-labels."""
        inner, plan = self.threat.inner, self.pretraining
        if plan is None:
            return self._tuning_talk(self.finetuning_schedule(rows).batch)
        clean, struck = plan.clean * self.batch, (plan.attacked + (plan.pseudo is not None)) * self.batch
        step = "pre-training step" if self.clustered_at in (None, 0) else "step with pseudo-labels"
        if not plan.attacked:
            return Talk(step, [clean + struck], [clean + struck])
        return Talk(step, [clean, *[struck] * (inner + 1)], [*[struck] * inner, clean + struck])

    def _tuning_talk(self, batch: int) -> Talk:
        plan = self.finetuning
        if plan.mode == "slf":
            return Talk("fine-tuning step", [], [])
        moved = [batch] * self.threat.inner * plan.attacks
        shown = [batch] * (plan.mode == "trades")
        last = [batch * (1 + len(shown))] * plan.moves_bottoms
        return Talk("fine-tuning step", [*shown, *moved, batch], [*moved, *last])

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
