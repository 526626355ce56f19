"""Norm scoring: the rarer class answers louder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fedsim.errors import ThreatModelError
from fedsim.message import Message
from fedsim.seeding import Rng
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge, Tell
from fedsim.vfl.messages import Gradient


@dataclass(frozen=True)
class Norms:
    """What the party has added up so far.

    Attributes:
        batches: the rows of each training step, (B,) int64, by step.
        total: by row, the sum of its gradient's norm relative to its batch, (N,).
        seen: by row, in how many batches it was, (N,).
        rounds: training steps so far.
    """

    batches: Mapping[str, Tensor]
    total: Tensor
    seen: Tensor
    rounds: int = 0


class NormScoring(AttackConfig):
    """A passive party scores each row by the norm of the gradient that the label holder sends back for it.

    With unbalanced binary labels the model soon predicts the common class, so rows of the rare class have the larger error
    and the larger gradient. The score of a row is its norm relative to its batch, averaged over the first rounds.
    """

    paper: ClassVar[str] = "Li et al., Label Leakage and Protection in Two-party Split Learning, ICLR 2022, section 3.1"
    about = "labels"
    needs = ("rows",)
    sees = ("Gradient",)
    metrics = ("auc",)

    rounds: int | None = Field(None, ge=1, description="training steps to listen to; default: all")

    def attack(self) -> Attack[Norms]:
        """See `AttackConfig.attack`."""

        def init(knowledge: Knowledge, rng: Rng) -> Norms:
            batches = {str(step): rows for step, rows in knowledge.need("rows").items()}
            size = 1 + max(int(rows.max()) for rows in batches.values())
            return Norms(batches, torch.zeros(size), torch.zeros(size))

        return Attack(init, self._observe, self._claim)

    def _observe(self, message: Message, state: Norms) -> Norms:
        if not isinstance(message, Gradient) or message.purpose != "train" or state.rounds == self.rounds:
            return state
        rows = state.batches[str(message.step)]
        norms = message.g.flatten(1).norm(dim=1)
        total = state.total.index_add(0, rows, norms / norms.mean().clamp_min(1e-30))
        seen = state.seen.index_add(0, rows, torch.ones_like(norms))
        return Norms(state.batches, total, seen, state.rounds + 1)

    def _claim(self, state: Norms, tell: Tell) -> Claim:
        rows = state.seen.nonzero().flatten()
        if not len(rows):
            raise ThreatModelError("norm_scoring saw no gradient of a training step")
        notes = {"rounds": state.rounds, "rows seen": len(rows)}
        return Claim(about="labels", rows=rows, values=state.total[rows] / state.seen[rows], notes=notes)
