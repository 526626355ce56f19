"""Where the marks stand in a strip of scores: each arm's score on one axis, beside that of a blind guess."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedsim.report.view import View, compare_attacks
from fedsim.report.words import LESS_IS_BETTER, number, title

START, END, ROW = 250, 900, 30
"""Pixels: where the axis begins and ends, height of an arm."""


@dataclass(frozen=True)
class Line:
    """One arm: where its mean score, the single scores (or the ends of an interval) and the blind guess stand."""

    name: str
    x: float
    singles: Sequence[float]
    chance: float | None
    text: str
    y: int
    interval: bool = False


@dataclass(frozen=True)
class Strip:
    """One trial: a line an arm, and labelled ticks."""

    title: str
    lines: Sequence[Line]
    ticks: Sequence[tuple[float, str]]
    height: int


@dataclass(frozen=True)
class Entry:
    """The numbers of one arm in one trial: mean, single scores or interval, blind guess."""

    name: str
    mean: float
    singles: Sequence[float]
    chance: float | None
    interval: bool = False


def strips(views: Sequence[View]) -> list[Strip]:
    """A strip for each attack, with the arms that ran it."""
    found = []
    for attack in compare_attacks(views):
        entries = [
            Entry(
                attack.matched.named(view.name),
                score,
                [t["score"] for t in group.trials if t["score"] is not None],
                group.chance(),
            )
            for view, group in attack.fared(views)
            if (score := group.score()) is not None
        ]
        found.append(strip(f"{attack.matched.title}: {title(attack.matched.metric)}", entries, attack.matched.metric))
    return [s for s in found if s.lines]


def strip(name: str, entries: Sequence[Entry], metric: str) -> Strip:
    """Lay out one trial; ``metric`` says how numbers are written, and whether less is better."""
    values = [v for e in entries for v in (e.mean, *e.singles, *([e.chance] if e.chance is not None else []))]
    ticks = _ticks(min(values), max(values)) if values else [0.0, 1.0]
    low, high = ticks[0], ticks[-1]

    def at(value: float) -> float:
        return round(START + (END - START) * (value - low) / (high - low), 1)

    lines = [
        Line(
            entry.name,
            at(entry.mean),
            [at(v) for v in entry.singles],
            None if entry.chance is None else at(entry.chance),
            number(entry.mean, metric),
            ROW * i + ROW // 2 + 4,
            entry.interval,
        )
        for i, entry in enumerate(entries)
    ]
    better = " (less is better for the attacker)" if metric in LESS_IS_BETTER else ""
    marks = [(at(tick), _tick(tick, metric)) for tick in ticks]
    return Strip(name + better, lines, marks, ROW * len(lines) + 28)


def _tick(value: float, metric: str) -> str:
    """A round number in the style of the scores beside it: ``.4``."""
    if metric.startswith(("share", "identified")):
        return number(value, metric)
    text = f"{value:g}".replace("-", "−")
    return text.replace("0.", ".", 1) if 0 < abs(value) < 1 and not metric.startswith("psnr") else text


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around ``low`` to ``high``, about five of them."""
    span = max(high - low, 1e-6 * max(1.0, abs(high)))
    raw = span / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]
