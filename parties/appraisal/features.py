"""What each feature of a party is worth to the hub's predictions, found at the party by captum.

The party varies its features and sends the embeddings; the hub says what becomes of them. captum asks while it computes, so it
runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from fedsim.distribution import format_install_command
from fedsim.errors import ConfigError
from fedsim.figure import Bars, Figure
from fedsim.message import RoleId
from fedsim.parties.appraisal import Valued, Worth
from fedsim.parties.examine.weights import Subject
from fedsim.seeding import Rng, determine
from fedsim.vfl.schedule import Turn

if TYPE_CHECKING:
    from fedsim.parties.features import FeatureParty

Ask = Callable[[Tensor, str], Valued]
"""What the hub makes of embeddings (V, n, E); the second argument is the goal of `Varied`."""
PATCHES = 7
"""Patches of an image along each side, at most."""
T = TypeVar("T")


@dataclass(frozen=True)
class Explained:
    """What the features of one party are worth on the explained rows.

    Attributes:
        names: of its columns, or of patches of its images.
        attributed: integrated gradients: the mean over rows of how far each moves the log odds of the predicted class.
        attributed_error: standard error over rows.
        permuted, permuted_error: the rise of the log loss if each is permuted among the rows, nats; over permutations.
    """

    names: tuple[str, ...]
    attributed: Tensor
    attributed_error: Tensor
    permuted: Tensor
    permuted_error: Tensor

    def figures(self, party: RoleId) -> list[Figure]:
        """Bars by feature."""
        return [
            Bars(
                f"Features of {party}: integrated gradients",
                self.names,
                self.attributed.tolist(),
                self.attributed_error.tolist(),
                along="log odds of the predicted class",
                note="How far each feature moves the prediction on the way from the mean training row to the row at hand: mean "
                "of absolute values over rows, and its standard error.",
            ),
            Bars(
                f"Features of {party}: permutation",
                self.names,
                self.permuted.tolist(),
                self.permuted_error.tolist(),
                along="rise of the log loss (nats)",
                note="If the feature is permuted among the rows: mean over permutations, and its standard error.",
            ),
        ]


class _Remote(torch.autograd.Function):
    """The rest of the network, which lies at the hub: values and gradients come by message."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, ask: Ask, rows: int) -> Tensor:
        answer = ask(z.detach().reshape(-1, rows, z.shape[1]), "value")
        ctx.save_for_backward(answer.g.reshape(z.shape))
        return answer.values.reshape(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = ctx.saved_tensors
        return grads[0][:, None] * g, None, None


def explain(party: FeatureParty, asked: Worth, rng: Rng, ask: Ask) -> Explained:
    """Everything; ``ask`` may block."""
    from captum.attr import FeaturePermutation, IntegratedGradients

    held = len(party.bottom.features["evaluate"])
    turn = Turn(0, party.schedule.steps, "evaluate", torch.arange(min(held, asked.rows)))
    subject = Subject.of(party.bottom.network, party.bottom.rows(turn))
    rows, mean = subject.rows, party.bottom.features["train"].mean(dim=0, keepdim=True)
    names, mask = features_of(party)
    apply = cast(Callable[[Tensor, Ask, int], Tensor], _Remote.apply)
    paths = IntegratedGradients(lambda x: apply(subject.run(subject.weights, x), ask, len(rows)))
    moved = _together(paths.attribute(rows, baselines=mean, n_steps=asked.steps).detach(), mask, len(names)).abs()

    def loss(x: Tensor) -> Tensor:
        with torch.no_grad():
            return ask(subject.run(subject.weights, x)[None], "loss").values

    permuted = torch.stack(
        [
            -_first(
                FeaturePermutation(loss, partial(_permute, rng.child(i).torch())).attribute(rows, feature_mask=mask),
                mask,
            )
            for i in range(asked.repeats)
        ]
    )
    return Explained(
        names, moved.mean(0), moved.std(0) / len(rows) ** 0.5, permuted.mean(0), permuted.std(0) / asked.repeats**0.5
    )


def features_of(party: FeatureParty) -> tuple[tuple[str, ...], Tensor]:
    """Names of a party's features, and which of them each input belongs to, (1, *shape of a row) int64."""
    shape = party.bottom.features["train"].shape[1:]
    if party.encoder.image is None:
        widths = torch.tensor([len(column.names) for column in party.encoder.columns])
        return tuple(c.name for c in party.encoder.columns), torch.repeat_interleave(torch.arange(len(widths)), widths)[
            None
        ]
    side = -(-max(shape[1:]) // PATCHES)
    across = -(-shape[2] // side)
    at = torch.arange(shape[1])[:, None] // side * across + torch.arange(shape[2])[None] // side
    names = tuple(f"rows from {i // across * side}, columns from {i % across * side}" for i in range(int(at.max()) + 1))
    return names, at.expand(1, *shape)


async def apart(work: Callable[[], T]) -> T:
    """What a blocking function returns; messages go on meanwhile."""
    pool = ThreadPoolExecutor(1, initializer=determine, initargs=(torch.get_num_threads(),))
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def needs_captum() -> None:
    """ConfigError if it is not installed."""
    from importlib.util import find_spec

    if find_spec("captum") is None:
        raise ConfigError(
            f"scenario.parties: disclose: needs captum, which is not installed: {format_install_command('card')}"
        )


def _together(values: Tensor, mask: Tensor, count: int) -> Tensor:
    """Sums over the inputs of each feature, (n, F)."""
    found = torch.zeros(len(values), count, dtype=values.dtype)
    return found.index_add(1, mask.flatten(), values.flatten(1))


def _first(values: Tensor, mask: Tensor) -> Tensor:
    """What captum says of each feature: it repeats it for each of its inputs, (F,)."""
    flat = mask.flatten()
    return torch.stack([values.flatten()[flat == i][0] for i in range(int(flat.max()) + 1)])


def _permute(generator: torch.Generator, rows: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen, rows[torch.randperm(len(rows), generator=generator)], rows)
