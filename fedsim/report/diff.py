"""How two runs differ: settings, results, weights to the bit, traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.report.reading import Run
from fedsim.report.words import change as signed
from fedsim.report.words import number

ABSENT = "(not there)"
Arms = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Change:
    """One value that differs: where, and what it is in either run."""

    where: str
    one: Any
    other: Any

    def line(self) -> str:
        """``scenario.batch: 32 -> 20``; for numbers of a result the difference, too."""
        metric = self.where.rpartition(" ")[2]
        both = f"{self.where}: {_short(self.one, metric)} -> {_short(self.other, metric)}"
        if isinstance(self.one, float) and isinstance(self.other, float):
            return f"{both} ({signed(self.other - self.one, metric)})"
        return both


@dataclass(frozen=True)
class Difference:
    """What differs between two runs.

    Attributes:
        names: of the two.
        alone: arms that only the first has, and those that only the second has; they are not compared.
        same_experiment: whether their digests, and those of their data, are equal.
        settings: by path in the resolved file.
        task, trials, traffic: by arm and what is measured.
        attacked: whether either run has a trial.
        weights: by arm and seat, whether the trained parameters are equal to the bit; only what both runs have.
    """

    names: tuple[str, str]
    alone: tuple[Sequence[str], Sequence[str]]
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
        return not (any(self.alone) or self.task or self.trials or self.traffic) and all(self.weights.values())

    def lines(self) -> list[str]:
        """For the terminal."""
        same = "the same experiment" if self.same_experiment else "different experiments"
        found = [f"{self.names[0]} -> {self.names[1]}: {same}, {'equal' if self.same_results else 'different'} results"]
        for name, arms in zip(self.names, self.alone, strict=True):
            found += [f"arms only in {name}: {', '.join(arms)}"] if arms else []
        parts = {"settings": self.settings, "task": self.task, "trials": self.trials, "traffic": self.traffic}
        for name, changes in parts.items():
            equal = "equal" if name != "trials" or self.attacked else "none"
            found.append(f"{name}: {len(changes)} differ" if changes else f"{name}: {equal}")
            found += [f"  {item.line()}" for item in changes]
        apart = [seat for seat, equal in self.weights.items() if not equal]
        found.append(f"weights: differ at {', '.join(apart)}" if apart else f"weights: {_equal_weights(self.weights)}")
        return found


def diff(one: Run, other: Run) -> Difference:
    """Compare two runs arm by arm; if they have no name of an arm in common, their first arms with each other."""
    arms_a, arms_b = dict(one.summary["arms"]), dict(other.summary["arms"])
    shared = [name for name in arms_a if name in arms_b]
    if not shared:
        first_a, first_b = next(iter(arms_a)), next(iter(arms_b))
        shared, arms_b = [first_a], {first_a if name == first_b else name: arm for name, arm in arms_b.items()}
    a, b = ({name: arms[name] for name in shared} for arms in (arms_a, arms_b))
    return Difference(
        (str(one.path), str(other.path)),
        ([name for name in arms_a if name not in a], [name for name in arms_b if name not in b]),
        all(one.manifest[key] == other.manifest[key] for key in ("digest", "data_sha256")),
        changes(one.scenario, other.scenario),
        _compare(a, b, lambda arm: _flat(arm["task"])),
        _compare(a, b, _trials),
        any(arm["trials"] for arms in (a, b) for arm in arms.values()),
        _compare(a, b, lambda arm: _flat(arm["traffic"])),
        {
            f"{name}/{seat}" if len(a) > 1 else seat: digest == b[name]["weights_sha256"][seat]
            for name in a
            for seat, digest in a[name].get("weights_sha256", {}).items()
            if seat in b[name].get("weights_sha256", {})
        },
    )


def changes(one: Any, other: Any, where: str = "") -> list[Change]:
    """Every leaf at which two trees of plain values differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys([*one, *other])
        pairs = {f"{where}.{k}".lstrip("."): (one.get(k, ABSENT), other.get(k, ABSENT)) for k in keys}
        return [change for path, (x, y) in pairs.items() for change in changes(x, y, path)]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [c for i, (x, y) in enumerate(zip(one, other, strict=True)) for c in changes(x, y, f"{where}.{i}")]
    return [] if one == other and type(one) is type(other) else [Change(where, one, other)]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers by name; over seeds, their means."""
    return {name: value["mean"] if isinstance(value, Mapping) else value for name, value in values.items()}


def _trials(arm: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for trial in arm["trials"]:
        who = f"{trial['attack']} at {trial['seat']} against {trial['victim']}"
        found |= {f"{who} {metric}": value for metric, value in _flat(trial["scores"]).items()}
    return found


def _compare(ones: Arms, others: Arms, numbers: Callable[[Mapping[str, Any]], dict[str, Any]]) -> list[Change]:
    """Changes in some numbers of each arm; a number that only one run has is compared with nothing."""
    found = []
    for arm in ones:
        a, b = numbers(ones[arm]), numbers(others[arm])
        for key in dict.fromkeys([*a, *b]):
            if a.get(key, ABSENT) != b.get(key, ABSENT):
                where = f"{arm}: {key}" if len(ones) > 1 else key
                found.append(Change(where, a.get(key, ABSENT), b.get(key, ABSENT)))
    return found


def _short(value: Any, metric: str) -> str:
    text = number(value, metric) if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _equal_weights(weights: Mapping[str, bool]) -> str:
    if len(weights) > 4:
        return f"equal to the bit at all {len(weights)} seats"
    return f"equal to the bit at {', '.join(weights)}" if weights else "nothing to compare"
