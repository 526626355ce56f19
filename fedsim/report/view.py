"""The arms of one run or of several, side by side: what every part of the page is made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fedsim.report.reading import Run


@dataclass(frozen=True)
class View:
    """One arm of one run.

    Attributes:
        name: unique on the page.
        run: the run it belongs to.
        numbers: its part of ``summary.json``.
        record: its part of ``seats.json``.
        rows: what its roles logged.
    """

    name: str
    run: Run
    numbers: Mapping[str, Any]
    record: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Group:
    """One trial of one arm, over all its victims.

    Attributes:
        number: of the trial.
        attack, seat: who attacks (the kind, and settings that differ from their defaults) from where.
        metric: of the result table.
        trials: as in ``summary.json``, one a victim.
        image: whether the victims hold images.
    """

    number: int
    attack: str
    seat: str
    metric: str
    trials: Sequence[Mapping[str, Any]]
    image: bool

    @property
    def victims(self) -> list[str]:
        """Who is attacked."""
        return [str(trial["victim"]) for trial in self.trials]

    def score(self, metric: str = "") -> float | None:
        """Mean over the victims of a metric (default: that of the result table)."""
        return mean([trial["scores"].get(metric or self.metric) for trial in self.trials])

    def chance(self, metric: str = "") -> float | None:
        """The same of a blind guess."""
        return mean([trial["chances"].get(metric or self.metric) for trial in self.trials])


def views(runs: Sequence[Run]) -> list[View]:
    """Every arm of every run; names get the run in front where there are several."""
    return [
        View(_name(run, arm, runs), run, numbers, run.records[arm], [row for row in run.rows if row.get("arm") == arm])
        for run in runs
        for arm, numbers in run.summary["arms"].items()
    ]


def groups(view: View) -> list[Group]:
    """The trials of an arm, by number."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for trial in view.numbers["trials"]:
        found.setdefault(trial["trial"], []).append(trial)
    return [
        Group(n, ts[0]["label"], ts[0]["seat"], ts[0]["metric"], ts, all(_holds_images(view, t["victim"]) for t in ts))
        for n, ts in sorted(found.items())
    ]


def group_of(view: View, number: int) -> Group | None:
    """The trial of this number, if this arm has it."""
    return next((group for group in groups(view) if group.number == number), None)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _holds_images(view: View, victim: str) -> bool:
    return len(view.record["seats"][victim]["describe"].get("input") or ()) == 3


def _name(run: Run, arm: str, runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return arm
    several = Counter(other.name for other in runs)[run.name] > 1
    title = PurePath(run.path).name if several else run.name
    return title if len(run.summary["arms"]) == 1 else f"{title}: {arm}"
