"""Fake gradients: numbers that were drawn beforehand, in the order of the true ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedsim.channel import Stage
from fedsim.message import Message, with_tensors
from fedsim.seeding import Rng
from fedsim.threat import Defence


@dataclass(frozen=True)
class Bank:
    """Candidates for one tensor: ``values`` (nu, n), each sorted in descending order, and their squared norms (nu,)."""

    values: Tensor
    squares: Tensor


@dataclass(frozen=True)
class Fakes:
    """What the stage keeps.

    Attributes:
        rng: the stage's node.
        banks: the banks drawn so far, by name of tensor.
        tensors: how many passed, and how many of them ``missed`` tau.
        distance: the mean over them of ``|fake - true| / |true|``.
    """

    rng: Rng
    banks: Mapping[str, Bank] = field(default_factory=dict)
    tensors: int = 0
    missed: int = 0
    distance: float = 0.0


class FakeGradient(Defence):
    """Put fake values in the place of the true ones, rank by rank: the largest fake where the largest true value was.

    The order, and hence mostly the sign, survives, so training with a scale-free optimiser such as Adam goes on; what CAFE
    solves for does not. Candidates are drawn once into a bank for each tensor: a fresh draw and sort of 1,000 candidates for
    every tensor and step, as published, costs far more than training. The published clip rule (take fake values as bounds
    on the true ones) is an option: it leaves about half of the true values as they are, and training suffers.
    """

    paper: ClassVar[str] = "Jin et al., CAFE, NeurIPS 2021, arXiv 2110.15122, section 4 (fake gradients)"

    sigma: float = Field(1.1, gt=0, description="standard deviation of the fake values")
    candidates: int = Field(20, ge=1, description="sorted candidates for each tensor, the nearest is sent (nu)")
    scale: Literal["absolute", "relative"] = Field(
        "absolute", description="relative: times the standard deviation of the true gradient; keeps SGD working"
    )
    tau: float | None = Field(
        None,
        gt=0,
        description="distance the nearest candidate should keep to, as a multiple of its norm; misses are counted",
    )
    clip: bool = Field(False, description="the published clip rule instead of plain rank matching")

    def stage(self) -> Stage[Fakes]:
        """The state holds the banks."""

        def apply(message: Message, state: Fakes) -> tuple[Message, Fakes]:
            banks, missed, passed, off = dict(state.banks), 0, 0, 0.0

            def fake(name: str, tensor: Tensor) -> Tensor:
                nonlocal missed, passed, off
                key = f"{name}, {tensor.numel()}"  # embeddings change their size with the batch
                if key not in banks:
                    banks[key] = self._draw(tensor.numel(), state.rng.child("bank", name))
                ties = state.rng.child("ties", message.step, name)
                faked, met = self._match(tensor, banks[key], ties)
                passed, missed = passed + 1, missed + (not met)
                off += float((faked - tensor).norm() / tensor.norm().clamp_min(1e-30))
                return faked

            after = with_tensors(message, fake)
            tensors = state.tensors + passed
            distance = (state.distance * state.tensors + off) / max(1, tensors)
            return after, Fakes(state.rng, banks, tensors, state.missed + missed, distance)

        return Stage(Fakes, apply)

    def _draw(self, size: int, rng: Rng) -> Bank:
        values = self.sigma * torch.randn(self.candidates, size, generator=rng.torch())
        values = values.sort(dim=1, descending=True).values
        return Bank(values, values.pow(2).sum(dim=1))

    def _match(self, tensor: Tensor, bank: Bank, ties: Rng) -> tuple[Tensor, bool]:
        true = tensor.detach().flatten().float()
        if not true.numel():
            return tensor, True
        spread = true.std(correction=0)
        unit = spread if self.scale == "relative" else torch.ones(())
        # equal values (a dead unit's zeros) would else be ranked by position, the same way in every step
        jitter = (1e-5 * spread + 1e-30) * torch.randn(true.shape, generator=ties.torch())
        order = torch.from_numpy(np.argsort(-(true + jitter).numpy()))  # three times as fast as torch.sort
        ranked = true[order]
        squared = unit.pow(2) * bank.squares - 2 * unit * (bank.values @ ranked) + ranked.pow(2).sum()
        nearest = int(squared.argmin())
        chosen = unit * bank.values[nearest]
        met = self.tau is None or math.sqrt(max(float(squared[nearest]), 0.0)) <= self.tau * float(chosen.norm())
        faked = torch.empty_like(true)
        faked[order] = torch.minimum(chosen, torch.maximum(ranked, -chosen)) if self.clip else chosen
        return faked.view_as(tensor).to(tensor.dtype), met
