"""A seat tries what its own weights can do: worst cases inside a ball, and bits that flip."""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedsim import bits
from fedsim.parties.examine import CEILING, Answer, Examination, Found, Goal
from fedsim.seeding import Rng
from fedsim.vfl.bounds import Bisection
from fedsim.vfl.network import Network, gradients
from fedsim.vfl.optimise import snapshot

Ask = Callable[[Tensor, Goal], Awaitable[Answer]]
"""What the hub makes of outputs (V, n, E)."""
Weights = Mapping[str, Tensor]
SWEPT: tuple[bits.Part, ...] = ("exponent", "mantissa", "sign")


@dataclass(frozen=True)
class Subject:
    """A network with the weights that an inference uses, and the rows it reads, on the CPU.

    Attributes:
        module: the network; its own parameters are not read.
        weights: by name.
        rows: (n, ...).
    """

    module: nn.Module
    weights: Weights
    rows: Tensor

    @staticmethod
    def of(network: Network, rows: Tensor) -> Subject:
        """A network as it is in use."""
        with network.in_use():
            return Subject(network.module.eval(), snapshot(network.parameters), rows)

    def in_double(self) -> nn.Module:
        """A copy of the network with these weights, in double precision."""
        module = copy.deepcopy(self.module).cpu().double()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(self.weights[name])
        return module

    def run(self, weights: Weights, rows: Tensor | None = None) -> Tensor:
        """Outputs (n, E) with other weights."""
        found: Tensor = functional_call(self.module, dict(weights), (self.rows if rows is None else rows,))
        return found

    def run_each(self, weights: Weights) -> Tensor:
        """Outputs (V, n, E) with V variants of the weights, (V, *shape) each."""
        with torch.no_grad():
            return vmap(self.run)(dict(weights))

    def run_by_row(self, weights: Weights) -> Tensor:
        """Outputs (n, E) in which each row has weights of its own, (n, *shape) each."""
        one = lambda own, row: self.run(own, row[None])[0]  # noqa: E731
        return vmap(one)(dict(weights), self.rows)


@dataclass(frozen=True)
class Findings:
    """What was found at one seat.

    Attributes:
        curve: the lowest accuracy at each radius, one change of the weights for all rows, (K,).
        nearest: the smallest radius at which a change made for the row alone flips it, (n,); infinite if none was found.
        heat: the lowest accuracy after one flipped bit, by layer and bit, (L, W).
        sweep: the accuracy after so many flipped bits, by part of a word, number, draw, (3, F, D); NaN: no such bits.
        layers: names of the layers.
        worst: the worst single bit that was found, in plain values.
    """

    curve: Tensor
    nearest: Tensor
    heat: Tensor
    sweep: Tensor
    layers: tuple[str, ...]
    worst: Mapping[str, Any]

    def message(self) -> Found:
        """For the hub."""
        layers, worst = json.dumps(self.layers), json.dumps(self.worst)
        return Found(0, self.curve, self.nearest, self.heat, self.sweep, layers, worst, purpose="query")

    @staticmethod
    def of(message: Found) -> Findings:
        """What a party says it found."""
        m = message
        return Findings(m.curve, m.nearest, m.heat, m.sweep, tuple(json.loads(m.layers)), json.loads(m.worst))


class Climb:
    """Weights on their way to where something is largest, none further than ``eps`` from where it began.

    Sign steps of a tenth of the radius from a random point of the ball; ``eps`` is one number, or for weights a row, (n,).
    """

    def __init__(self, centre: Weights, eps: float | Tensor, rng: Rng) -> None:
        self._centre = dict(centre)
        self._eps = {name: _over(eps, t) for name, t in self._centre.items()}
        self._offsets = {
            name: self._eps[name] * (2 * torch.rand(t.shape, generator=rng.child(name).torch()) - 1)
            for name, t in self._centre.items()
        }
        self.live: dict[str, Tensor] = {}

    def weights(self) -> dict[str, Tensor]:
        """Where it is now, to be differentiated."""
        self.live = {name: (t + self._offsets[name]).requires_grad_() for name, t in self._centre.items()}
        return self.live

    def move(self, grads: Sequence[Tensor]) -> None:
        """One step along these gradients, in the order of the weights."""
        for (name, eps), g in zip(self._eps.items(), grads, strict=True):
            offset = self._offsets[name] + 0.1 * eps * g.sign()
            self._offsets[name] = torch.maximum(torch.minimum(offset, eps), -eps)

    def reached(self) -> Tensor:
        """How far it is from where it began: for weights of each row, (n,)."""
        return torch.stack([offset.abs().flatten(1).amax(1) for offset in self._offsets.values()]).amax(0)


def _over(eps: float | Tensor, like: Tensor) -> Tensor:
    """The radius of every entry of ``like``."""
    radii = torch.as_tensor(eps, dtype=like.dtype)
    return radii.view(-1, *[1] * (like.ndim - 1)).expand_as(like) if radii.ndim else radii.expand_as(like)


async def climb(subject: Subject, eps: float, steps: int, rng: Rng, ask: Ask) -> float:
    """The lowest accuracy on the way of a climb in the loss over all rows."""
    going, lowest = Climb(subject.weights, eps, rng), 1.0
    for left in range(steps, -1, -1):
        output = subject.run(going.weights())
        answer = await ask(output.detach()[None], "loss" if left else "none")
        lowest = min(lowest, float(answer.accuracy))
        if left:
            going.move(gradients(output, list(going.live.values()), answer.g[0]))
    return lowest


async def nearest(subject: Subject, plan: Examination, rng: Rng, ask: Ask) -> Tensor:
    """The smallest radius found at which the prediction of a row flips, (n,) float64; infinite where none was found."""
    count = len(subject.rows)
    stacked = {name: t.expand(count, *t.shape) for name, t in subject.weights.items()}
    found = torch.full((count,), torch.inf, dtype=torch.float64)
    search = Bisection(count, 1e-6, CEILING, plan.searches)
    for i in range(search.rounds):
        going, flipped = Climb(stacked, search.asked(), rng.child(i)), torch.zeros(count, dtype=torch.bool)
        for left in range(plan.steps, -1, -1):
            output = subject.run_by_row(going.weights())
            answer = await ask(output.detach()[None], "flip" if left else "none")
            here = answer.changed[0]
            found = torch.where(here, torch.minimum(found, going.reached().double()), found)
            flipped |= here
            if left:
                going.move(gradients(output, list(going.live.values()), answer.g[0]))
        search.told(~flipped)
    return found


async def one_bit(subject: Subject, plan: Examination, rng: Rng, ask: Ask) -> tuple[Tensor, dict[str, Any]]:
    """The lowest accuracy after one flip, by layer and bit, (L, W), over drawn weights; and the worst flip of all."""
    heat = torch.full((len(subject.weights), bits.WIDTH[plan.format]), torch.nan, dtype=torch.float64)
    worst: dict[str, Any] = {}
    for i, (name, tensor) in enumerate(subject.weights.items()):
        stored, draws = bits.store(tensor, plan.format), min(plan.draws, tensor.numel())
        for bit in range(bits.WIDTH[plan.format]):
            places = torch.from_numpy(rng.child(name, bit).numpy().choice(tensor.numel(), draws, replace=False))
            variants = [_flipped(stored, torch.tensor([place]), torch.tensor([bit])) for place in places.tolist()]
            accuracy = await _accuracies(subject, {name: torch.stack(variants)}, plan, ask)
            heat[i, bit] = lowest = float(accuracy.min())
            if not worst or lowest < worst["accuracy"]:
                place = int(places[int(accuracy.argmin())])
                at = [int(k) for k in torch.unravel_index(torch.tensor(place), tensor.shape)]
                values = stored.value().flatten()[place], variants[int(accuracy.argmin())].flatten()[place]
                before, after = (float(value) for value in values)
                worst = {"parameter": name, "at": at, "bit": bit, "before": before, "after": after, "accuracy": lowest}
    return heat, worst


async def many_bits(subject: Subject, plan: Examination, rng: Rng, ask: Ask) -> Tensor:
    """The accuracy after drawn flips in one part of the words, over all layers, (3, F, D)."""
    size = sum(tensor.numel() for tensor in subject.weights.values())
    found = torch.full((len(SWEPT), len(plan.flips), plan.draws), torch.nan, dtype=torch.float64)
    for i, part in enumerate(SWEPT):
        for j, count in enumerate(plan.flips):
            if count > size * len(bits.PARTS[plan.format][part]):
                continue
            chosen = [
                bits.draw(size, plan.format, part, rng.child(part, count, k), count=count, rate=0.0)
                for k in range(plan.draws)
            ]
            each = [bits.masks(places, which, size) for places, which in chosen]
            found[i, j] = await _accuracies(subject, _struck(subject.weights, each, plan), plan, ask)
    return found


def _struck(weights: Weights, masks: list[Tensor], plan: Examination) -> dict[str, Tensor]:
    """Variants of all weights, (V, *shape) each, one a mask over all their words."""
    stacked, begin = {}, 0
    for name, tensor in weights.items():
        stored, end = bits.store(tensor, plan.format), begin + tensor.numel()
        stacked[name] = torch.stack([stored.flip(mask[begin:end].view(tensor.shape)).value() for mask in masks])
        begin = end
    return stacked


def _flipped(stored: bits.Stored, places: Tensor, which: Tensor) -> Tensor:
    return stored.flip(bits.masks(places, which, stored.words.numel()).view(stored.words.shape)).value()


async def _accuracies(subject: Subject, changed: Weights, plan: Examination, ask: Ask) -> Tensor:
    """Of variants of some weights, (V,); the others are as they are stored in this format."""
    count = len(next(iter(changed.values())))
    kept = {n: bits.store(t, plan.format).value().expand(count, *t.shape) for n, t in subject.weights.items()}
    return (await ask(subject.run_each({**kept, **changed}), "none")).accuracy


async def examine(subject: Subject, plan: Examination, rng: Rng, ask: Ask) -> Findings:
    """Everything that one seat finds out about its own weights while the others keep theirs."""
    curve = [await climb(subject, eps, plan.steps, rng.child("climb", i), ask) for i, eps in enumerate(plan.radii)]
    flips = await nearest(subject, plan, rng.child("nearest"), ask)
    heat, worst = await one_bit(subject, plan, rng.child("one bit"), ask)
    sweep = await many_bits(subject, plan, rng.child("many bits"), ask)
    return Findings(torch.tensor(curve, dtype=torch.float64), flips, heat, sweep, tuple(subject.weights), worst)
