"""What the hub makes of views without labels: projections, NT-Xent over rows and over parties, heads for pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fedsim.contrast.losses import ntxent
from fedsim.message import RoleId
from fedsim.models import ModelConfig
from fedsim.parties.pretraining import Pretraining
from fedsim.plugins import load
from fedsim.seeding import Rng
from fedsim.vfl.building import build_network
from fedsim.vfl.network import Network, Through, gradients
from fedsim.vfl.optimise import Optimiser, OptimiserConfig
from fedsim.vfl.schedule import Turn

JOINED = "joined"
"""The name of what is made of all parties' embeddings together."""
Views = Mapping[RoleId, Tensor]
"""By party, in roster order, embeddings (V, n, E) of all views of a batch: clean ones, attacked ones, those for the heads."""


@dataclass(frozen=True)
class Part:
    """A network at the hub and what updates it."""

    network: Network
    optimiser: Optimiser


class Objective:
    """The label-free loss.

    Attributes:
        plan: which views there are, and what is asked of them.
        parts: every network at the hub, by name.
        targets: pseudo-labels (K, N), a line for each number of clusters; empty before there are any.
        loss: of the last update, nats.
    """

    def __init__(
        self,
        plan: Pretraining,
        widths: Mapping[RoleId, int],
        rows: int,
        optimiser: OptimiserConfig,
        through: Through | None,
        rng: Rng,
    ) -> None:
        self.plan, self.loss = plan, float("nan")
        self._through, joined = through, sum(widths.values())
        self.parts: dict[str, Part] = {}
        singles = dict(widths) if plan.cross or plan.own else {}
        for name, width in {**({JOINED: joined} if plan.joint else {}), **singles}.items():
            self.parts[name] = _part(plan.projection, width, plan.width, optimiser, rng.child("projection", name))
        sizes = plan.pseudo.sizes if plan.pseudo else ()
        linear = load("models", ModelConfig, {"kind": "linear"})
        for size in sizes:
            self.parts[f"head {size}"] = _part(linear, joined, size, optimiser, rng.child("head", size))
        self.targets = torch.full((len(sizes), rows), -1, dtype=torch.int64)

    def state(self) -> Any:
        """See `fedsim.state.Lasting`."""
        parts = {name: (part.network.state(), part.optimiser.state()) for name, part in self.parts.items()}
        return {"parts": parts, "targets": self.targets}

    def restore(self, state: Any) -> None:
        """See `fedsim.state.Lasting`."""
        self.targets.copy_(state["targets"])
        for name, part in self.parts.items():
            network, memory = state["parts"][name]
            part.network.restore(network)
            part.optimiser.restore(memory)

    def climb(self, views: Views, told: bool, turn: Turn) -> dict[RoleId, Tensor]:
        """The gradient of the loss with respect to the attacked views, by party, (V', n, E) of them: nothing is updated."""
        still = self.plan.clean
        live = {party: z[still:].detach().requires_grad_() for party, z in views.items()}
        whole = {party: torch.cat([z[:still], live[party]]) for party, z in views.items()}
        g = gradients(self._total(whole, told, turn.held()), list(live.values()))
        return dict(zip(live, g, strict=True))

    def descend(self, views: Views, told: bool, turn: Turn, share: float) -> dict[RoleId, Tensor]:
        """The gradient with respect to every view, by party; the networks at the hub are updated."""
        live = {party: z.detach().requires_grad_() for party, z in views.items()}
        loss = self._total(live, told, turn)
        parts = [part for name, part in self.parts.items() if told or not name.startswith("head ")]
        g = gradients(loss, [*live.values(), *(p for part in parts for p in part.network.live)])
        rest = list(g[len(live) :])
        for part in parts:
            names = list(part.network.trained)
            part.optimiser.step(dict(zip(names, rest, strict=False)), share)
            rest = rest[len(names) :]
        self.loss = loss.item()
        return dict(zip(live, g, strict=False))

    def _total(self, views: Views, told: bool, turn: Turn) -> Tensor:
        plan, seen = self.plan, self.plan.clean + self.plan.attacked
        total = torch.zeros(())
        if plan.joint:
            joined = torch.cat(list(views.values()), dim=2)[:seen]
            total = total + plan.joint * self._over_views(self._through_part(JOINED, joined, turn))
        if plan.cross or plan.own:
            single = torch.stack([self._through_part(party, z[:seen], turn) for party, z in views.items()])
            if plan.cross:
                total = total + plan.cross * self._over_views(single.transpose(0, 1))
            if plan.own:
                total = total + plan.own * torch.stack([self._over_views(z) for z in single]).mean()
        if told and plan.pseudo is not None:
            joined = torch.cat([z[seen] for z in views.values()], dim=1)
            total = total + plan.pseudo.weight * self._labelling(joined, plan.pseudo.sizes, turn)
        return total

    def _over_views(self, z: Tensor) -> Tensor:
        """The contrastive loss over projections (V, n, d), or (V, P, n, d), where those of other parties are views too."""
        plan, temperature = self.plan, self.plan.temperature
        clean, attacked = (part.flatten(0, -3) for part in (z[: plan.clean], z[plan.clean :]))
        if plan.dual:
            return ntxent(clean, temperature) + ntxent(attacked, temperature)
        loss = ntxent(torch.cat([clean, attacked]), temperature)
        if plan.pull:
            pair = torch.stack([z[1], z[plan.clean]]).flatten(0, -3)
            loss = loss + plan.pull * ntxent(pair, temperature)
        return loss

    def _labelling(self, joined: Tensor, sizes: Sequence[int], turn: Turn) -> Tensor:
        losses = [
            functional.cross_entropy(self._through_part(f"head {size}", joined, turn), target[turn.rows])
            for size, target in zip(sizes, self.targets, strict=True)
        ]
        return torch.stack(losses).mean()

    def _through_part(self, name: str, z: Tensor, turn: Turn) -> Tensor:
        """(..., E) to (..., d)."""
        output = self.parts[name].network.train(z.flatten(0, -2), turn, self._through)
        return output.view(*z.shape[:-1], output.shape[1])


def _part(config: ModelConfig, width: int, out: int, optimiser: OptimiserConfig, rng: Rng) -> Part:
    network = build_network(config, (width,), out, rng)
    return Part(network, optimiser.build(network.trained))
