"""Which rows at which step: derived by every seat from the public seed, so batch ids never travel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fedsim.errors import ConfigError
from fedsim.message import Purpose
from fedsim.plugins import Settings
from fedsim.seeding import Rng

Sampling = Literal["epochs", "uniform"]
Pool = tuple[range, ...]
"""Row numbers."""
CHUNK = 4096


class Window(Settings):
    """Rounds in which the hub holds every model still (regime ``frozen``).

    A curious hub can hold still what it sends back; that the parties also leave out dropout and augmentation meanwhile
    (``quiet``) is their doing, and what makes the rounds exact.
    """

    first: int = Field(0, alias="from", ge=0, description="the first such training step")
    rounds: int = Field(ge=1, description="how many training steps")
    quiet: bool = Field(
        True, description="parties use neither dropout nor augmentation in these rounds; false: they do"
    )

    def covers(self, index: int) -> bool:
        """Whether training step ``index`` lies in the window."""
        return self.first <= index < self.first + self.rounds


@dataclass(frozen=True, eq=False)
class Turn:
    """One exchange.

    Attributes:
        step: its running number.
        index: training steps done before it.
        purpose: ``train``, ``evaluate`` (held-out rows) or ``query`` (new rows).
        rows: which rows, (B,) int64.
        hold: no model moves.
        rehearsal: gradients flow as in training, and the same rows follow once more; no model moves.
        quiet: neither dropout nor augmentation.
        last: it ends an evaluation.
        phase: which exchange over the rows of its batch, from 0.
    """

    step: int
    index: int
    purpose: Purpose
    rows: Tensor
    hold: bool = False
    quiet: bool = False
    last: bool = False
    rehearsal: bool = False
    phase: int = 0

    def held(self) -> Turn:
        """The same exchange for a pass that trains nothing: a step of an attack inside the training."""
        return replace(self, hold=True)


@dataclass(frozen=True)
class Schedule:
    """The turns of a run.

    Attributes:
        seed: the scenario's public node.
        train, test: numbers of rows.
        batch, steps: rows a training step, training steps.
        every: an evaluation follows each so many training steps, and the last.
        sampling: ``epochs``: every row once an epoch, the last batch may be smaller; ``uniform``: each batch a fresh
            subset without replacement (CAFE's sampling).
        window: when models are held still.
        rehearsals: so often each training step is rehearsed before it is played.
        pools: sets of training rows, each as ranges; a batch takes ``batch`` rows of each set. None: one set, all rows.
        phases: exchanges over the rows of each batch.
        over: the training was done before: there are no turns any more.
    """

    seed: Rng
    train: int
    test: int
    batch: int
    steps: int
    every: int
    sampling: Sampling = "epochs"
    window: Window | None = None
    rehearsals: int = 0
    pools: tuple[Pool, ...] | None = None
    phases: int = 1
    over: bool = False

    def __post_init__(self) -> None:
        fewest = min(sum(map(len, pool)) for pool in self._sets())
        if self.batch > fewest:
            what = "training rows" if self.pools is None else "training rows in one of its domains"
            raise ConfigError(f"scenario.batch: {self.batch} rows a batch, but there are only {fewest} {what}")

    @property
    def together(self) -> int:
        """Rows of a full batch, of all sets together."""
        return self.batch * len(self._sets())

    @property
    def exchanges(self) -> int:
        """How many there are in a training step."""
        return self.phases * (1 + self.rehearsals)

    @property
    def total(self) -> int:
        """How many steps the exchange has: the number of the first one after it."""
        return self.steps * self.exchanges + -(-self.steps // self.every) * len(list(pass_over("evaluate", self.test)))

    def turns(self, start: int = 0) -> Iterator[Turn]:
        """The turns from step ``start`` on."""
        if self.over:
            return
        step = 0
        for index, rows in enumerate(self._batches()):
            hold = self.window is not None and self.window.covers(index)
            quiet = hold and self.window is not None and self.window.quiet
            for rehearsal, phase in product((True,) * self.rehearsals + (False,), range(self.phases)):
                if step >= start:
                    yield Turn(step, index, "train", rows, hold or rehearsal, quiet, rehearsal=rehearsal, phase=phase)
                step += 1
            if (index + 1) % self.every == 0 or index + 1 == self.steps:
                for turn in pass_over("evaluate", self.test, step, index + 1):
                    if turn.step >= start:
                        yield turn
                    step = turn.step + 1

    def _sets(self) -> tuple[Pool, ...]:
        return ((range(self.train),),) if self.pools is None else self.pools

    def _batches(self) -> Iterator[Tensor]:
        sets = [
            self._drawn(pool, self.seed.child("pool", i) if i else self.seed) for i, pool in enumerate(self._sets())
        ]
        for parts in zip(*sets, strict=True):
            yield torch.cat(parts)

    def _drawn(self, pool: Pool, seed: Rng) -> Iterator[Tensor]:
        """The rows that each batch takes of one set."""
        ids = torch.cat([torch.arange(each.start, each.stop) for each in pool])
        per_epoch = -(-len(ids) // self.batch)
        for index in range(self.steps):
            if self.sampling == "uniform":
                order = torch.randperm(len(ids), generator=seed.child("batch", index).torch())
                yield ids[order[: self.batch]]
                continue
            epoch, nth = divmod(index, per_epoch)
            if nth == 0:
                order = torch.randperm(len(ids), generator=seed.child("epoch", epoch).torch())
            yield ids[order[nth * self.batch : (nth + 1) * self.batch]]


def pass_over(purpose: Purpose, rows: int, step: int = 0, index: int = 0) -> Iterator[Turn]:
    """Turns over rows 0 to ``rows`` in order, `CHUNK` rows each or more, so that there are at most 64."""
    size = max(CHUNK, -(-rows // 64))
    starts = range(0, rows, size)
    for i, begin in enumerate(starts):
        ids = torch.arange(begin, min(begin + size, rows))
        yield Turn(step + i, index, purpose, ids, last=i + 1 == len(starts))
