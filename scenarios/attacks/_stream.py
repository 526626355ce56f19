"""What CAFE keeps of many rounds without keeping their weight gradients.

Of round t, with batch membership ``a_t`` (1 / size of the batch for its rows), step II needs ``dW_t = sum_n a_tn v_n h_n'``
(d2, d1). Seen through k orthonormal directions R (k, d2) it is the least squares of ``|R dW_t - sum_n a_tn (R v_n) h_n'|``,
whose normal equations need of all rounds only

    Q_n = sum_t a_tn R dW_t            (k, d1) for each row,

for any V, so V may be found afterwards. With k = d2 this is the full least squares. R is fixed when the first k rounds are
there: an orthonormal basis of their bias gradients, which are random mixtures of the v_n, so that few directions hold nearly
all of V (Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011, algorithm 4.1). On a small CAFE
net of 96 units eight such directions lose nothing: with Gaussian noise of .1 and .3 standard deviations on all gradients
the relative error of H is .020 and .063 (all 96: .021 and .10; eight random ones: .065 and .18). Four lose: .030, .089.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

CHUNK = 128
"""Rounds that wait and are added to the sums at once: copies of the sums are dear, what waits is small."""
KEPT = 10
"""Rounds older than so many times the memory of a forgetful stream weigh less than e^-10."""


@dataclass(frozen=True)
class Round:
    """One training step: who was in the batch (B,), the first linear layer's gradients of bias (d2,) and weight (d2, d1)."""

    rows: Tensor
    bias: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Stream:
    """Rounds, summed up: O(N k d1), and every bias gradient.

    Attributes:
        size: N.
        directions: k.
        memory: rounds after which a round weighs 1/e of the newest; None: all weigh the same.
        count: how many rounds there were.
        waiting: rounds that are not in the sums yet; their weights are R dW (k, d1), or dW while there is no basis.
        rows: who was in each round of the sums, each (B,); ``biases``: (T, d2) float64. Of a forgetful stream the last ones.
        basis: R, (k, d2).
        sums: Q, (N, k, d1) float64.
        energy: the weighted sum of ``|R dW_t|^2``.
    """

    size: int
    directions: int
    memory: int | None = None
    count: int = 0
    waiting: tuple[Round, ...] = ()
    rows: tuple[Tensor, ...] = ()
    biases: Tensor | None = None
    basis: Tensor | None = None
    sums: Tensor | None = None
    energy: float = 0.0

    def __len__(self) -> int:
        return self.count

    def add(self, new: Round) -> Stream:
        """The stream after one more round."""
        seen = new.weight if self.basis is None else self.basis @ new.weight
        more = replace(
            self, count=self.count + 1, waiting=(*self.waiting, replace(new, bias=new.bias.clone(), weight=seen))
        )
        if more.basis is None and len(more.waiting) >= self.directions:
            more = more.based()
        return more.summed() if len(more.waiting) >= CHUNK else more

    def settled(self) -> Stream:
        """With all rounds in the sums, and the basis that there can be now."""
        return self.based().summed()

    def based(self) -> Stream:
        """With a basis of the bias gradients so far, unless there is one."""
        if self.basis is not None or not self.waiting:
            return self
        mixtures = torch.stack([r.bias for r in self.waiting]).double()
        basis = torch.linalg.qr(mixtures.T).Q.T.contiguous().float()
        return replace(self, basis=basis, waiting=tuple(replace(r, weight=basis @ r.weight) for r in self.waiting))

    def summed(self) -> Stream:
        """With all that waits added to the sums; what was there has aged."""
        new = self.waiting
        if not new:
            return self
        seen, weights = torch.stack([r.weight for r in new]), self.weights(len(new))
        member = membership([r.rows for r in new], self.size) * weights[:, None]
        sums = (member.T.float() @ seen.flatten(1)).double().view(self.size, *seen.shape[1:])
        energy = float(weights @ seen.double().pow(2).sum(dim=(1, 2)))
        rows, biases = tuple(r.rows for r in new), torch.stack([r.bias for r in new]).double()
        if self.sums is not None and self.biases is not None:
            old = math.exp(-len(new) / self.memory) if self.memory else 1.0
            sums, energy = sums.add_(self.sums, alpha=old), energy + old * self.energy
            rows, biases = (*self.rows, *rows), torch.cat([self.biases, biases])
        if self.memory and len(rows) > (kept := max(KEPT * self.memory, CHUNK)):
            rows, biases = rows[-kept:], biases[-kept:].clone()  # a view would keep the rest, too
        return replace(self, waiting=(), rows=rows, biases=biases, sums=sums, energy=energy)

    def weights(self, last: int) -> Tensor:
        """How much each of the last rounds counts, (last,) float64: ``exp(-age / memory)``."""
        age = torch.arange(last - 1, -1, -1, dtype=torch.float64)
        return torch.exp(-age / self.memory) if self.memory else torch.ones_like(age)


def membership(rows: Sequence[Tensor], size: int) -> Tensor:
    """A (T, N) float64: 1 / size of the batch where a row was in it (the loss is a mean), else 0."""
    member = torch.zeros(len(rows), size, dtype=torch.float64)
    for t, batch in enumerate(rows):
        member[t, batch] = 1 / len(batch)
    return member
