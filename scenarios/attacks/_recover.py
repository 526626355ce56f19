"""Steps I and II of CAFE: from summed-up rounds to every row's gradient v at, and input h of, the first linear layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsim.scenarios.attacks._stream import Stream, membership

REGULAR = 1e-4
"""A matrix whose Cholesky pivots differ by less than 1 / this is clearly regular: its condition is about 1e8, of 1e16."""
NOTHING = 1e-6
"""Rows whose v is shorter than this times the median sent no gradient."""


@dataclass(frozen=True)
class Equations:
    """The normal equations of both steps, over the n rows that were in a batch; A (T, n) are memberships, G weights of rounds.

    Attributes:
        rows: which, (n,).
        member, biases: ``G^(1/2) A`` (T, n) and ``G^(1/2) B`` (T, d2).
        gram: ``A' G A``, (n, n).
        basis: R, (k, d2).
        sums: Q, (n, k, d1).
        energy: the weighted sum of ``|R dW_t|^2``.
    """

    rows: Tensor
    member: Tensor
    biases: Tensor
    gram: Tensor
    basis: Tensor
    sums: Tensor
    energy: float

    def second(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Step II: its normal matrix ``(A'GA) * (V R'R V')`` (n, n) and right side (n, d1)."""
        seen = v @ self.basis.T
        right = torch.zeros(len(seen), self.sums.shape[2], dtype=torch.float64)
        for direction in range(seen.shape[1]):  # an einsum would copy the sums
            right.addcmul_(seen[:, direction, None], self.sums[:, direction])
        return self.gram * (seen @ seen.T), right


@dataclass(frozen=True)
class Recovered:
    """What steps I and II found.

    Attributes:
        rows: (n,).
        v, h: (n, d2) and (n, d1) float64; rows with vanishing v have h = 0.
        rank: of A.
        alive: which rows have a v that does not vanish, (n,).
        residual: the share of the (seen) weight gradients that the linear model leaves unexplained, as norms, in [0, 1].
    """

    rows: Tensor
    v: Tensor
    h: Tensor
    rank: int
    alive: Tensor
    residual: float

    @property
    def dead(self) -> int:
        """How many rows have a vanishing v."""
        return int((~self.alive).sum())


Solver = Callable[[Equations], tuple[Tensor, Tensor, int]]
"""From the equations to v (n, d2), h (n, d1) and the rank of A."""


def equations(stream: Stream) -> Equations:
    """What a settled stream says."""
    assert stream.basis is not None
    assert stream.biases is not None
    assert stream.sums is not None
    member, root = membership(stream.rows, stream.size), stream.weights(len(stream.rows)).sqrt()[:, None]
    rows = member.any(dim=0).nonzero().flatten()
    sums = stream.sums if len(rows) == stream.size else stream.sums[rows]
    member = member[:, rows] * root
    return Equations(rows, member, stream.biases * root, member.T @ member, stream.basis.double(), sums, stream.energy)


def recover(given: Equations, solver: Solver) -> Recovered:
    """Both steps. Step I solves ``A V = B``; step II has a regular matrix if no v_n vanishes and rank A = n."""
    v, h, rank = solver(given)
    alive = answers(v)
    answering = torch.where(alive[:, None], v, torch.zeros(()).double())
    return Recovered(given.rows, v, h, rank, alive, _residual(given, answering, h))


def exact(given: Equations) -> tuple[Tensor, Tensor, int]:
    """Least squares of least norm in float64; in step II columns are scaled to unit length first."""
    first = torch.linalg.lstsq(given.member, given.biases, driver="gelsd")
    unit, size = unit_rows(first.solution)
    h = _least_norm(*given.second(unit))
    return first.solution, h * torch.where(size > 0, 1 / size, size), int(first.rank)


def _least_norm(normal: Tensor, right: Tensor) -> Tensor:
    """The solution of a positive semidefinite system: by Cholesky, much faster, where the matrix is clearly regular."""
    factor, failed = torch.linalg.cholesky_ex(normal)
    pivots = factor.diagonal()
    if not failed and float(pivots.min()) > REGULAR * float(pivots.max()):
        return torch.cholesky_solve(right, factor)
    found: Tensor = torch.linalg.lstsq(normal, right, driver="gelsd").solution
    return found


def unit_rows(v: Tensor) -> tuple[Tensor, Tensor]:
    """v / |v| and |v| (n, 1), both 0 where v vanishes."""
    size = torch.where(answers(v)[:, None], v.norm(dim=1, keepdim=True), torch.zeros(()).double())
    return torch.where(size > 0, v / size.clamp_min(1e-300), torch.zeros(()).double()), size


def answers(v: Tensor) -> Tensor:
    """Which rows of gradients (n, d) do not vanish beside the others, (n,) bool."""
    size: Tensor = v.norm(dim=1)
    return size > NOTHING * size.median().clamp_min(1e-300)


def _residual(given: Equations, v: Tensor, h: Tensor) -> float:
    """``(sum_t g_t |R dW_t - sum_n a_tn (R v_n) h_n'|^2 / sum_t g_t |R dW_t|^2)^(1/2)``, expanded."""
    normal, right = given.second(v)
    left = given.energy + float((h * (normal @ h - 2 * right)).sum())
    return math.sqrt(max(left / max(given.energy, 1e-300), 0.0))
