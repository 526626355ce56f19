"""``summary.json``: the numbers of a run, a public contract with a version; see docs/summary.md."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim import state
from fedsim.config import ScenarioFile
from fedsim.outcome import Finding, SeatReport

SCHEMA = 1


@dataclass(frozen=True)
class Arm:
    """One arm, played to the end.

    Attributes:
        name: as in ``compare``, or the name of the file.
        file: what was played.
        reports: what each seat left, in roster order.
        seconds: wall clock from start to last verdict.
    """

    name: str
    file: ScenarioFile
    reports: Sequence[SeatReport]
    seconds: float


def summarise(file: ScenarioFile, arms: Sequence[Arm]) -> dict[str, Any]:
    """The contract: the first arm on top, every arm under ``arms``; a number that is not finite is null."""
    each = {arm.name: _arm(arm) for arm in arms}
    top = {**each[arms[0].name], "name": file.name, "digest": file.digest()}
    whole = finite({"schema": SCHEMA, **top, "arms": each})
    assert isinstance(whole, dict)
    return whole


def same_measure(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two arms, by their ``measured_on``, are scored on the same data with the same classes, as far as is known."""
    if one is None or other is None:
        return True
    classes = one["classes"], other["classes"]
    return one["data"] == other["data"] and (None in classes or classes[0] == classes[1])


def finite(node: Any) -> Any:
    """Plain values with null for each number that JSON cannot hold."""
    if isinstance(node, float):
        return node if math.isfinite(node) else None
    if isinstance(node, Mapping):
        return {str(key): finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [finite(value) for value in node]
    return node


def rows(reports: Iterable[SeatReport]) -> list[dict[str, Any]]:
    """Every logged row with the role that logged it."""
    return [own(row, role=report.role) for report in reports for row in report.rows]


def own(values: Mapping[str, Any], **whose: str) -> dict[str, Any]:
    """What a seat says, after whose it is; it cannot say that it is another's."""
    return {**whose, **values, **whose}


def _arm(arm: Arm) -> dict[str, Any]:
    logged = rows(arm.reports)
    evaluations = [row for row in logged if "test" in row]
    return {
        "name": arm.name,
        "digest": arm.file.digest(),
        "seed": arm.file.seed,
        "runtime": arm.file.runtime.kind(),
        "scenario": arm.file.scenario.kind(),
        "measured_on": _measured_on(arm),
        "task": dict(evaluations[-1]["test"]) if evaluations else {},
        "baseline": dict(evaluations[-1].get("baseline", {})) if evaluations else {},
        "trials": [_trial(finding) for finding in _in_order(arm.reports)],
        "weights_sha256": {r.role: r.weights_sha256 or state.digest(r.tensors) for r in arm.reports},
        "traffic": {
            "frames": sum(report.traffic.frames.total() for report in arm.reports),
            "bytes": sum(report.traffic.size.total() for report in arm.reports),
        },
        "steps": sum("loss" in row for row in logged),
        "missing": dict(Counter(party for row in logged for party in row.get("missing", ()))),
        "seconds": round(arm.seconds, 3),
    }


def _measured_on(arm: Arm) -> dict[str, Any]:
    """What the task's numbers are about: a digest of the data behind the held-out rows; the classes, if known here."""
    described = [report.describe for report in arm.reports if report.role == arm.file.plan().hub]
    classes = [list(each["classes"]) for each in described if "classes" in each]
    return {"data": arm.file.scenario.task_digest(), "classes": classes[0] if classes else None}


def _in_order(reports: Sequence[SeatReport]) -> list[Finding]:
    """Findings by trial, then as their attackers report them: by victim in roster order."""
    return sorted((f for report in reports for f in report.findings), key=lambda finding: finding.aim.number)


def _trial(finding: Finding) -> dict[str, Any]:
    aim, verdict = finding.aim, finding.verdict
    return {
        "trial": aim.number,
        "attack": aim.attack.kind(),
        "label": aim.attack.caption(),
        "settings": aim.attack.model_dump(mode="json"),
        "seat": aim.seat,
        "victim": aim.victim,
        "metric": aim.metric,
        "score": verdict.scores[aim.metric],
        "chance": verdict.chance.get(aim.metric),
        "knows": list(aim.knows),
        "scores": dict(verdict.scores),
        "chances": dict(verdict.chance),
    }
