"""CAFE's single loop, algorithm 4 of the paper: with every round one update of V, of H, and of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsim.scenarios.attacks._descent import Descent, Moments, start_h, start_v
from fedsim.scenarios.attacks._objective import Objective, Search, Whole, step
from fedsim.scenarios.attacks._tapped import Tapped
from fedsim.vfl.messages import ParameterGradient


@dataclass(frozen=True)
class Single:
    """Where the loop is: O(N (d1 + d2 + features)), however many rounds there were.

    Attributes:
        link: what passes besides parameters.
        model: the victim's parameters at present.
        v, h: (N, d2) and (N, d1); ``h_moments``: Adam's, of h, which also count how often each row was in a batch.
        search: the rows.
        rounds: how many there were.
        unexplained: the share of the last round's weight gradient that v and h leave, as norms.
    """

    link: Tapped
    model: Mapping[str, Tensor]
    v: Tensor
    h: Tensor
    h_moments: Moments
    search: Search
    rounds: int = 0
    unexplained: float = 1.0

    @staticmethod
    def of(link: Tapped, model: Mapping[str, Tensor]) -> Single:
        """Before the first round."""
        units, inputs = model[f"{link.layer}.weight"].shape
        batch = max((len(rows) for rows in link.batches.values()), default=1)
        start = link.rng.child("start")
        h = start_h(link.size, inputs, start)
        x = torch.zeros(link.size, *link.shape)
        if x.ndim == 4:
            x = torch.rand(x.shape, generator=start.child("x").torch())
        embedding = link.network(model)(x[:1]).shape[1]
        search = Search.of(x, embedding, start)
        return Single(link, model, start_v(link.size, units, batch, start), h, Moments.of(h), search)

    def add(self, message: ParameterGradient, seen: Whole, descent: Descent, objective: Objective) -> Single:
        """After one more round."""
        rows, layer = seen.rows, self.link.layer
        bias, weight = message.grads[f"{layer}.bias"], message.grads[f"{layer}.weight"]
        off = bias - self.v[rows].mean(dim=0)
        v = self.v.index_add(0, rows, off.expand(len(rows), -1), alpha=2 * descent.v_lr * len(rows))
        left = v[rows].T @ self.h[rows] / len(rows) - weight
        h, moments = self.h_moments.step(self.h, rows, v[rows] @ left, descent.h_lr)
        bottom = self.link.network(self.model)
        search = step(self.search, seen, h[rows], bottom, layer, objective, objective.lr)
        unexplained = float(left.norm() / weight.norm().clamp_min(1e-30))
        return replace(
            self, v=v, h=h, h_moments=moments, search=search, rounds=self.rounds + 1, unexplained=unexplained
        )
