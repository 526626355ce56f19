"""Match the attacks of several variants by what they are, never by where they stand in a file.

Entries of ``trials`` in two variants are the same attack if their kind, their settings, the attacking seat and the metric are
equal. If one variant has several of those, the attacker's knowledge tells them apart, then the victims, then their order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.report.words import listed

Results = Sequence[Mapping[str, Any]]
"""Entries of ``trials`` in a summary: one attack of one variant, an entry a victim."""
Key = tuple[Any, ...]


@dataclass(frozen=True)
class MatchedAttack:
    """One attack, and how it did in every variant that ran it.

    Attributes:
        name: kind and settings, and what else tells it from the other attacks of the comparison.
        label: kind and settings that differ from their defaults.
        attacker: the seat that attacks.
        metric: by which it is judged; every entry of ``results`` has it in ``metric``, ``score`` and ``chance``.
        results: by variant; a variant that did not run the attack is missing.
        remarks: by variant, what is not the same in all of them: knowledge or victims.
    """

    name: str
    label: str
    attacker: str
    metric: str
    results: Mapping[str, Results]
    remarks: Mapping[str, str]

    @property
    def title(self) -> str:
        """The attack, and who attacks."""
        return self.name if self.name.endswith(f" at {self.attacker}") else f"{self.name} at {self.attacker}"

    def named(self, variant: str) -> str:
        """A variant, with what is not the same in all of them."""
        remark = self.remarks.get(variant, "")
        return f"{variant} ({remark})" if remark else variant


@dataclass(frozen=True)
class _Unit:
    """One entry of a file's ``trials`` in one variant."""

    variant: str
    number: int
    results: Results

    def get(self, name: str) -> Any:
        """A value that all its entries share."""
        return self.results[0].get(name)

    @property
    def attack(self) -> Key:
        return self.get("attack"), self.get("settings_key"), self.get("seat")

    @property
    def knows(self) -> Key:
        return tuple(sorted(self.get("knows") or ()))

    @property
    def victims(self) -> Key:
        return tuple(str(entry["victim"]) for entry in self.results)

    @property
    def order(self) -> int:
        return self.number


def match_attacks(variants: Mapping[str, Results]) -> list[MatchedAttack]:
    """Every attack that any variant ran, in the order of the first that ran it.

    Args:
        variants: the entries of ``trials`` by the name of the variant.
    """
    units = [unit for name, entries in _with_settings(variants).items() for unit in _units(name, entries)]
    clusters: dict[Key, list[_Unit]] = {}
    for unit in units:
        clusters.setdefault((*unit.attack, unit.get("metric")), []).append(unit)
    apart = [(key, part) for key, cluster in clusters.items() for part in _separate(cluster)]
    names = _names([(part[0], mark) for _, (part, mark) in apart])
    found = []
    for name, (key, (part, mark)) in zip(names, apart, strict=True):
        results = {unit.variant: unit.results for unit in part}
        results |= {v: r for v, r in _under_other_metrics(units, key, mark) if v not in results}
        ordered = {variant: results[variant] for variant in variants if variant in results}
        label, attacker, metric = str(part[0].get("label")), str(part[0].get("seat")), str(key[-1])
        found.append(MatchedAttack(name, label, attacker, metric, ordered, _remarks(ordered)))
    return found


def _with_settings(variants: Mapping[str, Results]) -> dict[str, list[dict[str, Any]]]:
    """The entries with one value to compare settings by: all settings if every run recorded them, else the label."""
    known = all("settings" in entry for entries in variants.values() for entry in entries)

    def key(entry: Mapping[str, Any]) -> str:
        return json.dumps(entry["settings"], sort_keys=True) if known else str(entry["label"])

    return {name: [{**entry, "settings_key": key(entry)} for entry in entries] for name, entries in variants.items()}


def _units(variant: str, entries: Results) -> list[_Unit]:
    by_number: dict[int, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_number.setdefault(entry["trial"], []).append(entry)
    return [_Unit(variant, number, same) for number, same in sorted(by_number.items())]


Mark = tuple[str, Any]
"""By what the parts of a cluster are told apart, and the value of one part."""


def _separate(
    cluster: list[_Unit], by: Sequence[str] = ("knows", "victims", "order")
) -> Iterator[tuple[list[_Unit], list[Mark]]]:
    """Parts in which every variant has one entry at most."""
    if max(Counter(unit.variant for unit in cluster).values()) == 1:
        yield cluster, []
        return
    values = _values(by[0], cluster)
    for value in dict.fromkeys(values):
        part = [unit for unit, other in zip(cluster, values, strict=True) if other == value]
        for same, marks in _separate(part, by[1:]):
            yield same, [(by[0], value), *marks] if len(set(values)) > 1 else marks


def _values(by: str, cluster: Sequence[_Unit]) -> list[Any]:
    if by != "order":
        return [getattr(unit, by) for unit in cluster]
    seen: Counter[str] = Counter()
    found = []
    for unit in cluster:  # the first of each variant, the second of each, and so on
        seen[unit.variant] += 1
        found.append(seen[unit.variant])
    return found


def _under_other_metrics(units: Sequence[_Unit], key: Key, marks: Sequence[Mark]) -> Iterator[tuple[str, Results]]:
    """The same attack where its variant shows another metric, if the victims scored this one as well."""
    metric = key[-1]
    same = [unit for unit in units if unit.attack == key[:-1] and unit.get("metric") != metric]
    same = [unit for unit in same if all(getattr(unit, by) == value for by, value in marks if by != "order")]
    once = Counter(unit.variant for unit in same)
    for unit in same:
        if once[unit.variant] == 1 and all(metric in entry["scores"] for entry in unit.results):
            yield unit.variant, [_scored_by(metric, entry) for entry in unit.results]


def _scored_by(metric: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry, "metric": metric, "score": entry["scores"][metric], "chance": entry["chances"].get(metric)}


def _names(parts: Sequence[tuple[_Unit, Sequence[Mark]]]) -> list[str]:
    """A name for each part: the label, and whatever it takes to tell it from the others that are judged by the same metric."""
    labels = [str(unit.get("label")) + _marked(marks) for unit, marks in parts]
    steps: list[Callable[[_Unit, list[_Unit]], str]] = [
        _differing_settings,
        lambda unit, rivals: f" at {unit.get('seat')}",
    ]
    for more in steps:
        places: dict[Key, list[int]] = {}
        for i, (unit, _) in enumerate(parts):
            places.setdefault((labels[i], unit.get("metric")), []).append(i)
        for same in places.values():
            if len(same) > 1:
                rivals = [parts[i][0] for i in same]
                for i in same:
                    labels[i] += more(parts[i][0], rivals)
    return labels


def _marked(marks: Sequence[Mark]) -> str:
    words: dict[str, Callable[[Any], str]] = {"knows": _knowing, "victims": _against, "order": _numbered}
    return "".join(f", {words[by](value)}" for by, value in marks)


def _knowing(facts: Sequence[str]) -> str:
    return f"knowing {listed(list(facts)) or 'nothing'}"


def _against(victims: Sequence[str]) -> str:
    return f"against {listed(list(victims))}"


def _numbered(nth: int) -> str:
    return f"number {nth} of its kind"


def _differing_settings(unit: _Unit, rivals: Sequence[_Unit]) -> str:
    """Settings by which attacks of the same label differ: their defaults were not the same when they ran."""
    settings = [dict(rival.get("settings") or {}) for rival in rivals]
    keys = dict.fromkeys(key for each in settings for key in each)
    odd = [key for key in keys if len({json.dumps(each.get(key), sort_keys=True) for each in settings}) > 1]
    own = unit.get("settings") or {}
    return f" ({', '.join(f'{key}={own.get(key)}' for key in odd)})" if odd else ""


def _remarks(results: Mapping[str, Results]) -> dict[str, str]:
    """By variant, the knowledge and the victims where these are not the same in all variants."""
    knows = {variant: tuple(sorted(entries[0].get("knows") or ())) for variant, entries in results.items()}
    victims = {variant: tuple(str(entry["victim"]) for entry in entries) for variant, entries in results.items()}
    differ = [
        (values, word) for values, word in ((knows, _knowing), (victims, _against)) if len(set(values.values())) > 1
    ]
    return {variant: ", ".join(word(values[variant]) for values, word in differ) for variant in results}
