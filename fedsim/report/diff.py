"""How two runs differ: settings, results, weights to the bit, traffic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.report.matching import match_attacks
from fedsim.report.reading import Run
from fedsim.report.summary import same_measure
from fedsim.report.words import change as signed
from fedsim.report.words import number

ABSENT = "(not there)"
Arms = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Change:
    """One value that differs: where, and what it is in either run.

    Attributes:
        metric: what a number measures.
        comparable: whether a difference of the two numbers means anything.
    """

    where: str
    one: Any
    other: Any
    metric: str = ""
    comparable: bool = True

    def line(self) -> str:
        """``scenario.batch: 32 -> 20``; for numbers of a result the difference, too."""
        both = f"{self.where}: {_short(self.one, self.metric)} -> {_short(self.other, self.metric)}"
        if self.comparable and isinstance(self.one, float) and isinstance(self.other, float):
            return f"{both} ({signed(self.other - self.one, self.metric)})"
        return both


@dataclass(frozen=True)
class Difference:
    """What differs between two runs.

    Attributes:
        names: of the two.
        alone: arms that only the first has, and those that only the second has; they are not compared.
        unlike: arms that the two runs score on other data or other classes: their numbers are shown, not subtracted.
        same_experiment: whether their digests, and those of their data, are equal.
        settings: by path in the resolved file.
        task, trials, traffic: by arm and what is measured.
        attacked: whether either run has a trial.
        weights: by arm and seat, whether the trained parameters are equal to the bit; only what both runs have.
    """

    names: tuple[str, str]
    alone: tuple[Sequence[str], Sequence[str]]
    unlike: Sequence[str]
    same_experiment: bool
    settings: Sequence[Change]
    task: Sequence[Change]
    trials: Sequence[Change]
    attacked: bool
    traffic: Sequence[Change]
    weights: Mapping[str, bool]

    @property
    def same_results(self) -> bool:
        """Whether arms, metrics, trials, traffic and weights are all equal."""
        differ = any(self.alone) or self.unlike or self.task or self.trials or self.traffic
        return not differ and all(self.weights.values())

    def lines(self) -> list[str]:
        """For the terminal."""
        same = "the same experiment" if self.same_experiment else "different experiments"
        found = [f"{self.names[0]} -> {self.names[1]}: {same}, {'equal' if self.same_results else 'different'} results"]
        for name, arms in zip(self.names, self.alone, strict=True):
            found += [f"arms only in {name}: {', '.join(arms)}"] if arms else []
        if self.unlike:
            which = "" if len(self.unlike) == 1 else f" of {', '.join(self.unlike)}"
            found.append(f"scored on other data or other classes: numbers{which} are shown, not subtracted")
        parts = {"settings": self.settings, "task": self.task, "trials": self.trials, "traffic": self.traffic}
        for name, changes in parts.items():
            equal = "equal" if name != "trials" or self.attacked else "none"
            found.append(f"{name}: {len(changes)} differ" if changes else f"{name}: {equal}")
            found += [f"  {item.line()}" for item in changes]
        apart = [seat for seat, equal in self.weights.items() if not equal]
        found.append(f"weights: differ at {', '.join(apart)}" if apart else f"weights: {_equal_weights(self.weights)}")
        return found


def diff(one: Run, other: Run) -> Difference:
    """Compare two runs arm by arm: arms of the same name, else of the same experiment, else the only arms of both."""
    pairs = _pairs(one.summary["arms"], other.summary["arms"])
    a = {name: one.summary["arms"][name] for name in pairs}
    b = {name: other.summary["arms"][theirs] for name, theirs in pairs.items()}
    unlike = [name for name in pairs if not _same_measure(one, a[name], other, b[name])]
    return Difference(
        (str(one.path), str(other.path)),
        (
            [name for name in one.summary["arms"] if name not in pairs],
            [name for name in other.summary["arms"] if name not in pairs.values()],
        ),
        unlike,
        all(one.manifest[key] == other.manifest[key] for key in ("digest", "data_sha256")),
        changes(one.scenario, other.scenario),
        _compare(a, b, _task, unlike),
        _compare(a, b, _attacks, unlike),
        any(arm["trials"] for arms in (a, b) for arm in arms.values()),
        _compare(a, b, lambda x, y: (_numbers(x["traffic"]), _numbers(y["traffic"])), ()),
        {
            f"{name}/{seat}" if len(a) > 1 else seat: digest == b[name]["weights_sha256"][seat]
            for name in a
            for seat, digest in a[name].get("weights_sha256", {}).items()
            if seat in b[name].get("weights_sha256", {})
        },
    )


def _pairs(ones: Arms, others: Arms) -> dict[str, str]:
    """By the name of an arm of the first run, the arm of the second that it is compared with."""
    if same := [name for name in ones if name in others]:
        return {name: name for name in same}
    by_digest = {arm["digest"]: name for name, arm in others.items() if "digest" in arm}
    if equal := {name: by_digest[arm["digest"]] for name, arm in ones.items() if arm.get("digest") in by_digest}:
        return equal
    return {next(iter(ones)): next(iter(others))} if len(ones) == len(others) == 1 else {}


def _same_measure(one: Run, arm: Mapping[str, Any], other: Run, theirs: Mapping[str, Any]) -> bool:
    """Whether two arms are scored on the same data with the same classes, as far as their runs tell."""
    here, there = arm.get("measured_on"), theirs.get("measured_on")
    if here is None or there is None:
        return bool(one.manifest["data_sha256"] == other.manifest["data_sha256"])
    return same_measure(here, there)


def changes(one: Any, other: Any, where: str = "") -> list[Change]:
    """Every leaf at which two trees of plain values differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys([*one, *other])
        pairs = {f"{where}.{k}".lstrip("."): (one.get(k, ABSENT), other.get(k, ABSENT)) for k in keys}
        return [change for path, (x, y) in pairs.items() for change in changes(x, y, path)]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [c for i, (x, y) in enumerate(zip(one, other, strict=True)) for c in changes(x, y, f"{where}.{i}")]
    return [] if one == other and type(one) is type(other) else [Change(where, one, other)]


Numbers = dict[tuple[str, str], Any]
"""Values by what they are of and by their metric."""


def _numbers(values: Mapping[str, Any], what: str = "") -> Numbers:
    """Numbers by metric; over seeds, their means."""
    return {(what, name): value["mean"] if isinstance(value, Mapping) else value for name, value in values.items()}


def _task(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Numbers, Numbers]:
    a, b = (_numbers(arm["task"]) | _numbers(arm.get("baseline", {}), "constant guess") for arm in (one, other))
    return a, b


def _attacks(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Numbers, Numbers]:
    """Every score of every attack at every victim; attacks are matched by what they are."""
    found: tuple[Numbers, Numbers] = {}, {}
    for attack in match_attacks({"one": one["trials"], "other": other["trials"]}):
        for numbers, name in zip(found, ("one", "other"), strict=True):
            for trial in attack.results.get(name, ()):
                against = "" if " against " in attack.title else f" against {trial['victim']}"
                knowing = f", {remark}" if "knowing" in (remark := attack.remarks[name]) else ""
                numbers |= _numbers(trial["scores"], f"{attack.title}{against}{knowing}")
    return found


def _compare(
    ones: Arms,
    others: Arms,
    numbers: Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[Numbers, Numbers]],
    unlike: Collection[str],
) -> list[Change]:
    """Changes in some numbers of each arm; a number that only one run has is compared with nothing."""
    found = []
    for arm in ones:
        a, b = numbers(ones[arm], others[arm])
        for what, metric in dict.fromkeys([*a, *b]):
            one, other = (values.get((what, metric), ABSENT) for values in (a, b))
            if one != other:
                where = f"{what} {metric}".strip()
                named = f"{arm}: {where}" if len(ones) > 1 else where
                found.append(Change(named, one, other, metric, arm not in unlike))
    return found


def _short(value: Any, metric: str) -> str:
    text = number(value, metric) if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _equal_weights(weights: Mapping[str, bool]) -> str:
    if len(weights) > 4:
        return f"equal to the bit at all {len(weights)} seats"
    return f"equal to the bit at {', '.join(weights)}" if weights else "nothing to compare"
