"""The contract of a model: rows in, (B, out) out, drawn from one stream, every parameter named and trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsim.errors import ConfigError
from fedsim.models import ModelConfig
from fedsim.seeding import Rng
from fedsim.state import digest
from fedsim.testing.expect import check_metadata, expect, no_errors

SHAPES: tuple[tuple[int, ...], ...] = ((6,), (1, 14, 14), (3, 16, 12))
"""Shapes of a row to try: a table's (D,), and images (C, H, W)."""
OUT = 5


def check_model(config: ModelConfig) -> None:
    """Check a model with these settings on tables and images; a shape it refuses with `ConfigError` is left out.

    Raises:
        ConformanceError: says which part of the contract is broken.
    """
    check_metadata(config)
    refused = [shape for shape in SHAPES if not _takes(config, shape)]
    expect(len(refused) < len(SHAPES), f"{config.kind()}: takes neither tables nor images, tried rows of {SHAPES}")


def _takes(config: ModelConfig, shape: tuple[int, ...]) -> bool:
    where = f"{config.kind()}, rows of shape {shape}"
    with no_errors(where):
        try:
            module, twin = _build(config, shape), _build(config, shape)
        except ConfigError:
            return False
        same = digest(dict(module.named_parameters())) == digest(dict(twin.named_parameters()))
        expect(same, f"{where}: two networks built under one random node differ; draw from torch's global stream")
        _check_network(module, shape, where)
    return True


def _build(config: ModelConfig, shape: tuple[int, ...]) -> nn.Module:
    with Rng.root(2).child("initial").as_global():
        return config.build(shape, OUT)


def _check_network(module: nn.Module, shape: tuple[int, ...], where: str) -> None:
    parameters: dict[str, Tensor] = dict(module.named_parameters())
    expect(bool(parameters), f"{where}: has no parameters")
    buffers = [name for name, _ in module.named_buffers()]
    expect(not buffers, f"{where}: has buffers {buffers}; only parameters are trained, saved and disclosed")
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    expect(not frozen, f"{where}: parameters {frozen} are not trained")
    for batch in (3, 1):
        rows = torch.rand((batch, *shape), generator=Rng.root(2).child("rows", batch).torch())
        out = module(rows)
        found, expected = tuple(out.shape), (batch, OUT)
        expect(found == expected, f"{where}: {batch} rows give shape {found}, expected {expected}")
        expect(bool(torch.isfinite(out).all()), f"{where}: the output is not finite")
    grads = torch.autograd.grad(out.sum(), list(parameters.values()), allow_unused=True)
    unreached = [name for name, grad in zip(parameters, grads, strict=True) if grad is None]
    expect(not unreached, f"{where}: no gradient reaches {unreached}")
