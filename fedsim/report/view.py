"""The arms of one run or of several, side by side: what every part of the page is made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.report.matching import MatchedAttack, Results, match_attacks
from fedsim.report.reading import Run
from fedsim.report.summary import same_measure


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

    @property
    def baseline(self) -> Mapping[str, Any]:
        """By metric of the task, what a constant guess scores; empty for runs that did not record it."""
        found: Mapping[str, Any] = self.numbers.get("baseline", {})
        return found


@dataclass(frozen=True)
class Group:
    """One attack in one arm, over all its victims.

    Attributes:
        attack: what it is called (`fedsim.report.matching`).
        metric: of the result table.
        trials: as in ``summary.json``, one a victim.
        image: whether the victims hold images.
    """

    attack: str
    metric: str
    trials: Results
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
    arms = [
        (_name(title, run, arm, runs), run, arm)
        for title, run in zip(_names(runs), runs, strict=True)
        for arm in run.summary["arms"]
    ]
    names = _numbered([name for name, _, _ in arms])
    return [
        View(name, run, run.summary["arms"][arm], run.records[arm], [row for row in run.rows if row.get("arm") == arm])
        for name, (_, run, arm) in zip(names, arms, strict=True)
    ]


def part_views(run: Run) -> list[View]:
    """Every arm of a run folder that may hold the part of one seat only."""
    return [
        View(arm, run, numbers, run.parts[arm], [row for row in run.rows if row.get("arm") == arm])
        for arm, numbers in run.summary["arms"].items()
    ]


@dataclass(frozen=True)
class ComparedAttack:
    """One attack on the page: the same in all arms that ran it.

    Attributes:
        matched: what it is.
        groups: by the name of the arm; an arm that did not run it is missing.
    """

    matched: MatchedAttack
    groups: Mapping[str, Group]

    def fared(self, views: Sequence[View]) -> list[tuple[View, Group]]:
        """The arms that ran it, in order."""
        return [(view, self.groups[view.name]) for view in views if view.name in self.groups]


def compare_attacks(views: Sequence[View]) -> list[ComparedAttack]:
    """Every attack of any arm, each with the arms that ran it."""
    by_name = {view.name: view for view in views}
    found = []
    for matched in match_attacks({view.name: view.numbers["trials"] for view in views}):
        groups = {
            name: Group(
                matched.name, matched.metric, trials, all(_holds_images(by_name[name], t["victim"]) for t in trials)
            )
            for name, trials in matched.results.items()
        }
        found.append(ComparedAttack(matched, groups))
    return found


def unlike_first(views: Sequence[View]) -> list[View]:
    """The arms that are scored on other data, or with other classes, than the first."""
    return [view for view in views if not same_task(views[0], view)]


def same_task(one: View, other: View) -> bool:
    """Whether two arms are scored on the same data with the same classes, as far as their runs tell."""
    here, there = one.numbers.get("measured_on"), other.numbers.get("measured_on")
    if here is None or there is None:
        return one.run is other.run or one.run.manifest.get("data_sha256") == other.run.manifest.get("data_sha256")
    return same_measure(here, there)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _holds_images(view: View, victim: str) -> bool:
    return len(view.record["seats"][victim]["describe"].get("input") or ()) == 3


def _names(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its own, or as much of its folder's path as it takes to tell it from runs of the same name."""
    own = [run.name for run in runs]
    names, folders = list(own), [Path(run.path).absolute().parts for run in runs]
    for depth in range(1, max(map(len, folders))):
        twice = {name for name, count in Counter(names).items() if count > 1}
        if not twice:
            break
        names = ["/".join(folder[-depth:]) if n in twice else n for n, folder in zip(names, folders, strict=True)]
    return _numbered(own if len({*folders}) == 1 < len(folders) else names)


def _numbered(names: Sequence[str]) -> list[str]:
    """The names; from the second on, those that came before with a number."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _name(title: str, run: Run, arm: str, runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return arm
    return title if len(run.summary["arms"]) == 1 else f"{title}: {arm}"
