"""Sums of known batches of unknown matrices of rank one, from the order of their values alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedsim.threat import Tell

POWER = 3.0
"""The first values are normal quantiles to this power: gradients have heavy tails."""


@dataclass(frozen=True)
class Round:
    """One training step: the rows of the batch (B,), and the gradient of the first linear layer's weight (d2, d1)."""

    rows: Tensor
    weight: Tensor


def fit(rounds: Sequence[Round], rows: Tensor, repeats: int, tell: Tell) -> tuple[Tensor, float]:
    """The directions of the non-negative h (n, d1) for which ``sum over the batch of v_n h_n'`` has the seen order best.

    Alternates between two steps, from values that are known by rank only:

    1. values -> rows: ``M = A+ G``, with A (T, n) the membership of rows in batches divided by the size of the batch and
       G (T, d2 d1); then the best ``v_n h_n'`` with ``h_n >= 0`` for each row's matrix ``M_n``.
    2. rows -> values: ``A [v_n h_n']``, made monotone in the order seen, round by round (isotonic regression, on means of
       neighbours). What scale a round has follows from the others; that of all of them stays unknown.

    Returns:
        h, each of length one, and how far the sums are from being monotone: ``|sums - values| / |values|``.
    """
    member = torch.stack([torch.isin(rows, r.rows).float() / len(r.rows) for r in rounds])
    inverse, (d2, d1) = torch.linalg.pinv(member.double()).float(), rounds[0].weight.shape
    orders = [np.argsort(r.weight.flatten().numpy(), kind="stable").astype(np.int32) for r in rounds]
    start = _start(d2 * d1)
    values = torch.stack([_placed(start, order) for order in orders])
    h, misfit = torch.ones(len(rows), d1), 0.0
    for nth in range(repeats):
        tell(nth / repeats)
        v, h = _rank_one((inverse @ values).view(-1, d2, d1), h)
        sums = member @ (v[:, :, None] * h[:, None, :]).flatten(1)
        values = torch.stack([_monotone(s, order) for s, order in zip(sums, orders, strict=True)])
        misfit = float((sums - values).norm() / values.norm().clamp_min(1e-30))
        values *= len(rounds) ** 0.5 / values.norm().clamp_min(1e-30)  # only ratios are known
    return _rank_one((inverse @ values).view(-1, d2, d1), h)[1], misfit


def _start(size: int) -> npt.NDArray[np.float32]:
    """Values in ascending order, of length one: normal quantiles to a power."""
    ranks = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    quantiles = torch.special.ndtri(ranks)
    heavy = quantiles.sign() * quantiles.abs().pow(POWER)
    found: npt.NDArray[np.float32] = (heavy / heavy.norm().clamp_min(1e-30)).float().numpy()
    return found


def _placed(ascending: npt.NDArray[np.float32], order: npt.NDArray[np.int32]) -> Tensor:
    placed = np.empty_like(ascending)
    placed[order] = ascending
    return torch.from_numpy(placed)


def _monotone(values: Tensor, order: npt.NDArray[np.int32]) -> Tensor:
    """The nearest values (n,) that ascend in the order seen."""
    from sklearn.isotonic import isotonic_regression

    ascending = isotonic_regression(values.numpy()[order].astype(np.float64))
    return _placed(np.asarray(ascending, dtype=np.float32), order)


def _rank_one(M: Tensor, h: Tensor, repeats: int = 5) -> tuple[Tensor, Tensor]:
    """For each matrix (n, d2, d1) the best ``v h'`` with h >= 0 of length one, by power iterations from h (n, d1)."""
    for _ in range(repeats):
        h = h / h.norm(dim=1, keepdim=True).clamp_min(1e-30)
        v = torch.einsum("nij,nj->ni", M, h)
        h = torch.einsum("nij,ni->nj", M, v).clamp_min(0)
    h = h / h.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return torch.einsum("nij,nj->ni", M, h), h
