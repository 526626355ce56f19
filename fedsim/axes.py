"""The ``sweep:`` block of a scenario file: its axes, and the cells that they span. Pure data."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from fedsim.default_values import find_default, merge_over
from fedsim.override import around, put
from fedsim.plugins import DisplayName, Settings
from fedsim.seeding import Rng

MOST = 1000
"""Cells of a sweep, at most."""
FIXED = ("seed", "name", "sweep", "compare", "runtime", "placement", "folder")
"""What cannot be varied from cell to cell."""
DIGITS = 4
"""Significant digits of a number that is drawn."""


class Range(Settings):
    """Where a random axis draws its numbers from."""

    low: float = Field(description="the least number")
    high: float = Field(description="the largest number")
    log: bool = Field(False, description="draw evenly over orders of magnitude")
    whole: bool = Field(False, description="whole numbers only")

    @model_validator(mode="after")
    def _some_width(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"expected low < high{' and, with log, low > 0' * self.log}; found {self.low} to {self.high}"
            )
        return self

    def draw(self, rng: Rng) -> float:
        """One number, rounded so that it can be written down."""
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        at = float(rng.numpy().uniform(low, high))
        value = math.exp(at) if self.log else at
        return round(value) if self.whole else float(f"{value:.{DIGITS}g}")


def _form(value: Any) -> str:
    if isinstance(value, Range):
        return "range"
    if not isinstance(value, Mapping):
        return "values"
    return "range" if {"low", "high"} & value.keys() else "options"


Values = Annotated[tuple[Any, ...], Field(min_length=1), Tag("values")]
Options = Annotated[dict[DisplayName, dict[str, Any]], Field(min_length=1), Tag("options")]
GridAxis = Annotated[Values | Options, Discriminator(lambda value: "values" if _form(value) == "values" else "options")]
RandomAxis = Annotated[Values | Options | Annotated[Range, Tag("range")], Discriminator(_form)]


class Budget(Settings):
    """How much is played, at most."""

    samples: int = Field(8, ge=1, le=MOST, description="draws of the random axes, each beside every cell of the grid")
    trials: int | None = Field(None, ge=1, description="runs; every cell has its first seed before one has its second")
    time: float | None = Field(None, gt=0, description="seconds after which no further run begins")


@dataclass(frozen=True)
class Choice:
    """One value of one axis: what it is called, and what it changes.

    Attributes:
        path: of a value of the file; empty if ``value`` is a mapping to merge over the file.
    """

    label: str
    path: str
    value: Any


@dataclass(frozen=True)
class Cell:
    """One point of a sweep: by axis, the choice that was made."""

    choices: Mapping[str, Choice]

    @property
    def name(self) -> str:
        """The choices in a few words: ``fakes, batch 20``."""
        said = (f"{c.path.rpartition('.')[2]} {c.label}" if c.path else c.label for c in self.choices.values())
        return ", ".join(said)

    @property
    def numbers(self) -> dict[str, float]:
        """The choices that are numbers, by axis."""
        return {
            axis: c.value
            for axis, c in self.choices.items()
            if isinstance(c.value, int | float) and not isinstance(c.value, bool)
        }

    def apply(self, base: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
        """The plain values of a file, a ``model``, with this cell's changes.

        Raises:
            ConfigError: a path leads through something that is not there.
        """
        data: dict[str, Any] = copy.deepcopy(dict(base))
        defaults = partial(find_default, model)
        for choice in sorted(self.choices.values(), key=lambda choice: bool(choice.path)):  # whole structures first
            value = copy.deepcopy(choice.value)
            if not choice.path:
                data = merge_over(model, data, value)
                continue
            where = f"axis {choice.path}"
            here = around(data, choice.path, where, defaults)
            if choice.path.endswith(".kind") and isinstance(here, dict) and here.get("kind") != value:
                here.clear()  # the settings of one kind are not those of another
            put(data, choice.path, value, where, defaults)
        return data


class Sweep(Settings):
    """Which variants of the file to play, and how many seeds of each."""

    grid: dict[str, GridAxis] = Field({}, description="axes, every value of one beside every value of the others")
    random: dict[str, RandomAxis] = Field({}, description="axes whose values are drawn")
    seeds: int = Field(1, ge=1, le=MOST, description="seeds of each cell, from the file's own upward")
    budget: Budget = Field(default_factory=lambda: Budget.model_validate({}), description="how much is played, at most")
    at_once: int | None = Field(None, ge=1, le=MOST, description="runs at the same time; default: one a core")
    pack: bool = Field(
        True, description="each run whole in one process; false: by the file's own runtime, one at a time"
    )
    task: Literal["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc"] = Field(
        "accuracy", description="the metric of the task in the report"
    )
    leakage: str = Field("", description="the metric of the attacks in the report; default: one that all attacks have")

    @field_validator("grid", "random", mode="before")
    @classmethod
    def _empty_options(cls, value: Any) -> Any:
        """``none:`` with nothing behind it is an option that changes nothing."""
        if not isinstance(value, Mapping):
            return value
        return {
            name: {k: {} if v is None else v for k, v in axis.items()} if isinstance(axis, Mapping) else axis
            for name, axis in value.items()
        }

    @model_validator(mode="after")
    def _axes_make_sense(self) -> Sweep:
        for name, axis in self.axes.items():
            _refuse_fixed(name, axis)
            if not isinstance(axis, Range):
                labels = [choice.label for choice in _choices(name, axis)]
                if twice := [label for i, label in enumerate(labels) if label in labels[:i]]:
                    raise ValueError(f"axis {name}: value {twice[0]} stands twice")
        if not self.axes:
            raise ValueError("nothing to vary; expected an axis under grid or random, such as scenario.batch: [20, 40]")
        if both := sorted(self.grid.keys() & self.random.keys()):
            raise ValueError(f"axis {both[0]} stands under grid and under random")
        sizes = [len(axis) for axis in self.grid.values()] + [self.budget.samples] * bool(self.random)
        if math.prod(sizes) > MOST:
            raise ValueError(
                f"{' x '.join(map(str, sizes))} = {math.prod(sizes):,} cells; at most {MOST:,} are allowed"
            )
        if not self.pack and (self.at_once or 1) > 1:
            raise ValueError(f"at_once: expected 1 with pack: false (one run at a time), found {self.at_once}")
        return self

    @property
    def axes(self) -> dict[str, tuple[Any, ...] | dict[str, dict[str, Any]] | Range]:
        """Every axis by name, those of the grid first."""
        return {**self.grid, **self.random}

    @property
    def attackers(self) -> list[str]:
        """The axes that change who attacks, and nothing else."""
        return [name for name, axis in self.axes.items() if _about_trials(name, axis)]

    def cells(self, seed: int) -> list[Cell]:
        """Every cell once; ``seed``, the file's own, decides what is drawn, and more samples add to those of fewer."""
        grid = [[(name, choice) for choice in _choices(name, axis)] for name, axis in self.grid.items()]
        draws = [self._draw(Rng.root(seed).child("sweep", i)) for i in range(self.budget.samples if self.random else 1)]
        cells = [Cell(dict([*at, *draw])) for at in itertools.product(*grid) for draw in draws]
        return list({tuple(choice.label for choice in cell.choices.values()): cell for cell in cells}.values())

    def _draw(self, rng: Rng) -> list[tuple[str, Choice]]:
        found = []
        for name, axis in self.random.items():
            if isinstance(axis, Range):
                value = axis.draw(rng.child(name))
                found.append((name, Choice(_label(value), name, value)))
            else:
                choices = list(_choices(name, axis))
                found.append((name, choices[int(rng.child(name).numpy().integers(len(choices)))]))
        return found


def _choices(name: str, axis: Any) -> Iterator[Choice]:
    if isinstance(axis, Mapping):
        yield from (Choice(label, "", override) for label, override in axis.items())
    else:
        yield from (Choice(_label(value), name, value) for value in axis)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refuse_fixed(name: str, axis: Any) -> None:
    paths = [key for override in axis.values() for key in override] if isinstance(axis, Mapping) else [name]
    for path in paths:
        if (first := path.partition(".")[0]) in FIXED:
            instead = "; how many seeds each cell has stands under seeds" if first == "seed" else ""
            raise ValueError(f"axis {name}: '{first}' cannot be varied{instead}")
        if not all(path.split(".")):
            raise ValueError(f"axis {name}: expected a path such as scenario.batch, or a mapping of names to changes")


def _about_trials(name: str, axis: Any) -> bool:
    if isinstance(axis, Mapping):
        keys = {key for override in axis.values() for key in override}
        return keys == {"trials"}
    return name.partition(".")[0] == "trials"


def short(axes: Iterable[str]) -> dict[str, str]:
    """By axis, the last part of its path if no other axis ends in it: what a column is called."""
    ends = {axis: axis.rpartition(".")[2] for axis in axes}
    return {axis: end if list(ends.values()).count(end) == 1 else axis for axis, end in ends.items()}
