"""Weights of domains: the projection on the simplex, and the weights that are worst for given losses."""

from __future__ import annotations

import torch
from torch import Tensor


def project(v: Tensor) -> Tensor:
    """The nearest point of the simplex (entries from 0, summing to 1) to each column of ``v``, (K, n).

    Duchi et al., Efficient Projections onto the l1-Ball for Learning in High Dimensions, ICML 2008, figure 1.
    """
    ranked = v.sort(dim=0, descending=True).values
    count = torch.arange(1, len(v) + 1, dtype=v.dtype)[:, None]
    shift = (ranked.cumsum(dim=0) - 1) / count
    kept = (ranked > shift).sum(dim=0, keepdim=True)
    return (v - shift.gather(0, kept - 1)).clamp_min(0)


def worst(losses: Tensor, gamma: float) -> Tensor:
    """The weights w that maximise ``sum_k w_k F_k - gamma / 2 |w - 1/K|^2``, (K, n), for losses F of that shape.

    With gamma 0 all of it lies on the largest loss, evenly where several are.
    """
    if gamma > 0:
        return project(1 / len(losses) + losses / gamma)
    largest = (losses == losses.amax(dim=0)).to(losses.dtype)
    return largest / largest.sum(dim=0)


def ascend(weights: Tensor, losses: Tensor, gamma: float, beta: float) -> Tensor:
    """One projected gradient step of length 1 / beta towards them, from weights (K, n)."""
    uphill = losses - gamma * (weights - 1 / len(weights))
    return project(weights + uphill / beta)
