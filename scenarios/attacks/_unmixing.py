"""Per-row parameter gradients out of gradients of batches, and what a linear layer's own gradient says of its input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def unmixing(batches: Sequence[Tensor], rows: Tensor) -> tuple[Tensor, int]:
    """The pseudo-inverse (n, T) of the design A, and the rank of A.

    A (T, n) says which of ``rows`` (n,) is in which of T batches, divided by the size of the batch, as the loss is a mean. On
    one model the gradients of batches are ``D = A P`` with P those of single rows: ``P = pinv(A) D`` if the rank is n.
    """
    design = torch.stack([torch.isin(rows, batch).double() / len(batch) for batch in batches])
    return torch.linalg.pinv(design, rtol=1e-9), int(torch.linalg.matrix_rank(design))


def apart(inverse: Tensor, seen: Sequence[Tensor]) -> Tensor:
    """``pinv(A) D`` for some rows (k, T) and one parameter: (k, ...), one batch at a time, in float64."""
    found = torch.zeros((len(inverse), *seen[0].shape), dtype=torch.float64)
    for nth, gradient in enumerate(seen):
        found += inverse[:, nth].view(-1, *[1] * gradient.ndim) * gradient.double()
    return found


def inputs(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The inputs h (k, d1) of a linear layer from single rows' gradients (k, d2, d1) and (k, d2), and which rows answer.

    The gradient of the weight is ``v h'`` with v that of the bias: ``h = W' v / |v|^2``, the least-squares solution over all
    units. Without a bias h is known up to its scale: the first right singular vector, of the sign that makes its sum positive.
    """
    if bias is None:
        _, size, directions = torch.linalg.svd(weight, full_matrices=False)
        h = directions[:, 0] * torch.where(directions[:, 0].sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
        return h, size[:, 0] > 1e-6 * size[:, 0].median()
    size = bias.norm(dim=1)
    alive = size > 1e-6 * size.median().clamp_min(1e-300)
    unit = bias / size.clamp_min(1e-300)[:, None]
    h = torch.einsum("noi,no->ni", weight, unit) / size.clamp_min(1e-300)[:, None]
    return torch.where(alive[:, None], h, torch.zeros(()).double()), alive
