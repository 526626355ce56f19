"""The contract of a model: rows in, (B, out) out, drawn from one stream, all that lasts in parameters and buffers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsim.errors import ConfigError, ConformanceError
from fedsim.models import ModelConfig
from fedsim.seeding import Rng
from fedsim.state import digest
from fedsim.testing.expect import check_metadata, expect, no_errors
from fedsim.vfl.building import FaultyModelError, build_network, try_network
from fedsim.vfl.modules import model_tensors
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Turn

SHAPES: tuple[tuple[int, ...], ...] = ((6,), (1, 14, 14), (3, 16, 12))
"""Shapes of a row to try: a table's (D,), and images (C, H, W)."""
OUT = 5
_RNG = Rng.root(2)


def check_model(config: ModelConfig) -> list[str]:
    """Check a model with these settings on tables and images; shapes that it does not take are left out, if it takes one.

    Returns:
        A line for each shape that the model fails on without saying so by `ConfigError`: a run is refused there, too.

    Raises:
        ConformanceError: says which part of the contract is broken.
    """
    check_metadata(config)
    refused = {shape: error for shape in SHAPES if (error := _refusal(config, shape)) is not None}
    for shape in SHAPES:
        if shape not in refused:
            _check_on(config, shape)
    reasons = "; ".join(dict.fromkeys(map(str, refused.values())))
    expect(
        len(refused) < len(SHAPES),
        f"{config.kind()}: takes neither tables nor images, tried rows of {SHAPES}: {reasons}",
    )
    unsaid = {shape: error for shape, error in refused.items() if type(error) is not ConfigError}
    return [f"rows of shape {shape} are refused: {error}" for shape, error in unsaid.items()]


def _refusal(config: ModelConfig, shape: tuple[int, ...]) -> Exception | None:
    """Why a run would not take rows of this shape; None if it would.

    Raises:
        ConformanceError: the model is at fault, whatever the shape.
    """
    try:
        build_network(config, shape, OUT, _RNG)
    except FaultyModelError as error:
        raise ConformanceError(f"{config.kind()}, rows of shape {shape}: {error}") from error
    except (ConfigError, RuntimeError) as error:
        return error
    return None


def _check_on(config: ModelConfig, shape: tuple[int, ...]) -> None:
    where = f"{config.kind()}, rows of shape {shape}"
    with no_errors(where):
        module, twin = _build(config, shape), _build(config, shape)
        same = digest(model_tensors(module)) == digest(model_tensors(twin))
        expect(same, f"{where}: two networks built under one random node differ; draw from torch's global stream")
        _check_network(module, shape, where)
        _check_saved(config, Network(twin, _RNG), shape, where)


def _build(config: ModelConfig, shape: tuple[int, ...], seed: str = "initial") -> nn.Module:
    with _RNG.child(seed).as_global():
        return config.build(shape, OUT)


def _check_network(module: nn.Module, shape: tuple[int, ...], where: str) -> None:
    """What a run checks as well, and one training step; frozen and unused parameters are allowed."""
    network = Network(module, _RNG)
    try_network(network, shape, OUT, where)
    for step, rows in enumerate((3, 1)):
        turn = Turn(step, step, "train", torch.arange(rows))
        out = network.train(_rows(shape, rows), turn)
        expect(bool(torch.isfinite(out).all()), f"{where}: the output is not finite")
        _, grads = network.pull_back(out, torch.ones_like(out))
        expect(grads.keys() == network.trained.keys(), f"{where}: gradients of {list(grads)}")
        again = network.infer(_rows(shape, rows))
        expect(bool(torch.isfinite(again).all()), f"{where}: the output in evaluation is not finite")


def _check_saved(config: ModelConfig, network: Network, shape: tuple[int, ...], where: str) -> None:
    """Parameters and buffers are the whole of a model: one that was built otherwise and takes them over predicts the same."""
    other = Network(_build(config, shape, "other"), _RNG)
    network.train(_rows(shape, 3), Turn(0, 0, "train", torch.arange(3)))
    other.load(network.tensors)
    rows = _rows(shape, 3)
    expect(
        bool(torch.equal(network.infer(rows), other.infer(rows))),
        f"{where}: with the same parameters and buffers two networks predict differently; keep whatever else it has drawn or "
        "counted in a buffer (register_buffer)",
    )


def _rows(shape: tuple[int, ...], count: int) -> Tensor:
    return torch.rand((count, *shape), generator=_RNG.child("rows", count).torch())
