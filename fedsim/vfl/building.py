"""Building a network from its settings, and trying it once: a model that cannot be trained is refused before a run."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from fedsim.errors import ConfigError
from fedsim.models import ModelConfig
from fedsim.seeding import Rng
from fedsim.vfl.modules import BATCH_NORMS
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Turn

ROWS = 3
"""Rows of a trial pass."""
TOLERANCE = 1e-3
"""How far the output of a row alone may be from that among others, relative to the largest output: kernels round otherwise."""


class UnfitError(ConfigError):
    """A model cannot be built for rows of this shape, or fails on them; it may well take others."""


class FaultyModelError(ConfigError):
    """A model cannot be used here, whatever its rows are."""


def build_network(config: ModelConfig, shape: tuple[int, ...], out: int, rng: Rng) -> Network:
    """A network from rows of ``shape`` to (B, out); its initial weights and all that it draws later follow from ``rng``.

    Raises:
        ConfigError: rows of this shape do not fit, or the model cannot be trained here; says why.
    """
    named = f"model '{config.kind()}'"
    try:
        with rng.child("initial").as_global(), torch.no_grad():
            network = Network(config.build(shape, out), rng)
    except (ConfigError, MemoryError, RuntimeError, OverflowError):
        raise
    except Exception as error:
        raise UnfitError(f"{named}: cannot be built for rows of shape {shape}: {_reason(error)}") from error
    try_network(network, shape, out, named)
    return network


def try_network(network: Network, shape: tuple[int, ...], out: int, named: str) -> None:
    """Pass a few rows through a network, which stays as it was; what is found out about it is kept there.

    Raises:
        UnfitError: a pass fails, or its output does not fit.
        FaultyModelError: the output of a row depends on the rows beside it, or a size is not known.
    """
    if lazy := [name for name, tensor in network.tensors.items() if is_lazy(tensor)]:
        raise FaultyModelError(
            f"{named}: the sizes of {', '.join(lazy)} are not known yet; expected layers with all sizes"
        )
    for name, part in network.module.named_modules():
        if isinstance(part, BATCH_NORMS) and not part.track_running_stats:
            raise FaultyModelError(
                f"{named}: layer '{name}' normalises with the rows at hand even in evaluation, so a prediction depends on the "
                "rows beside it; expected track_running_stats=True"
            )
    try:
        _try_passes(network, shape, out, named)
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        if "alloc" in str(error):
            raise
        raise UnfitError(f"{named}: a pass over {ROWS} rows of shape {shape} fails: {_reason(error)}") from error


def _try_passes(network: Network, shape: tuple[int, ...], out: int, named: str) -> None:
    rows = torch.rand((ROWS, *shape), generator=Rng.root(0).child("trial").torch())
    turn = Turn(0, 0, "query", torch.arange(ROWS))
    _check_output(network.train(rows, turn), ROWS, out, f"{named}, in training")
    _check_output(network.infer(rows), ROWS, out, named)
    network.by_row = network.draws_in_evaluation(rows)
    alone, whole = network.infer(rows[:1]), network.infer(rows)
    _check_output(alone, 1, out, named)
    if float((alone - whole[:1]).abs().max()) > TOLERANCE * max(1.0, float(whole.abs().max())):
        raise FaultyModelError(
            f"{named}: the output of a row depends on the rows beside it, even in evaluation; expected each row by itself"
        )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _check_output(output: Tensor, rows: int, out: int, named: str) -> None:
    if not isinstance(output, Tensor) or tuple(output.shape) != (rows, out):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UnfitError(f"{named}: {rows} rows give {found}; expected ({rows}, {out})")
