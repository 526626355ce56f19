"""``seats.json``: what a reader of the run may want to see and `summary.json` does not promise. Plain values only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fedsim.message import RoleId
from fedsim.outcome import Finding, SeatReport
from fedsim.plan import LinkConfig, Plan
from fedsim.report.summary import Arm, own


def slugs(names: Iterable[str]) -> dict[str, str]:
    """A distinct, plain file name for each name; most names are their own."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unnamed"
        slug, i = plain, 2
        while slug.casefold() in taken:  # file systems may not tell cases apart
            slug, i = f"{plain}-{i}", i + 1
        taken.add(slug.casefold())
        found[name] = slug
    return found


def claim_file(arm_slug: str, finding: Finding) -> str:
    """Where a claim lies in the run folder."""
    aim = finding.aim
    name = slugs([f"{aim.number}-{aim.attack.kind()}-{aim.victim}"])
    return f"claims/{arm_slug}/{next(iter(name.values()))}.safetensors"


def shown_file(claim: str) -> str:
    """Where the exhibits of a claim lie: truth and claim."""
    return claim.removesuffix(".safetensors") + "-shown.safetensors"


def record(arm: Arm, slug: str, first: bool) -> dict[str, Any]:
    """One arm: its plan and what its seats reported, without tensors."""
    plan = arm.file.plan()
    specs = arm.file.resolved()["scenario"].get("parties", {})
    models = slugs(plan.roster)
    folder = "model" if first else f"model/{slug}"
    return {
        "slug": slug,
        "hub": plan.hub,
        "seats": {
            report.role: {
                "describe": dict(report.describe),
                "columns": specs.get(report.role, {}).get("columns"),
                "wrappers": [w.model_dump(mode="json") for w in plan.wrappers.get(report.role, ())],
                "model": f"{folder}/{models[report.role]}",
                "withheld": None if report.withheld is None else list(report.withheld),
            }
            for report in arm.reports
        },
        "flows": [{"from": f.frm, "to": f.to, "message": f.kind} for f in plan.flows],
        "defences": [d for link in plan.links for d in _defences(link, plan)],
        "stages": [own(stage, seat=report.role) for report in arm.reports for stage in report.stages],
        "figures": [own(figure, seat=report.role) for report in arm.reports for figure in report.figures],
        "traffic": [t for report in arm.reports for t in _traffic(report)],
        "findings": [_finding(f, slug, arm) for report in arm.reports for f in report.findings],
        "judged": [_judged(f, slug, arm) for report in arm.reports for f in report.judged] if is_part(arm) else [],
        "one_operator": not is_part(arm) and all(report.withheld is None for report in arm.reports),
    }


def is_part(arm: Arm) -> bool:
    """Whether an arm's reports are of some seats only, as in the run folder of one seat."""
    return len(arm.reports) < len(arm.file.plan().roster)


def exhibits(finding: Finding, arm: Arm) -> dict[str, Any]:
    """What the victim of a finding keeps to show: tensors by name."""
    prefix = f"{_number(finding, arm)}/"
    for report in arm.reports:
        if report.role == finding.aim.victim:
            return {n.removeprefix(prefix): rows for n, rows in report.exhibits.items() if n.startswith(prefix)}
    return {}


def _number(finding: Finding, arm: Arm) -> int:
    """The running number of the attack in the plan, by which a victim files its exhibits."""
    aim = finding.aim
    return arm.file.plan().aim_numbers[aim.number, aim.seat, aim.victim]


def _defences(link: LinkConfig, plan: Plan) -> list[dict[str, Any]]:
    """The stages of an entry on every link that it joins: where exactly each of them lies."""
    pairs: dict[tuple[RoleId, RoleId], None] = {}
    for flow in plan.flows:
        if link.joins(flow.frm, flow.to) and link.message in ("*", flow.kind):
            pairs[flow.frm, flow.to] = None
    ends = [(end, stage) for end in ("sender", "receiver") for stage in getattr(link, end)]
    return [
        {"from": frm, "to": to, "message": link.message, "end": end, **stage.model_dump(mode="json")}
        for frm, to in pairs
        for end, stage in ends
    ]


def _traffic(report: SeatReport) -> list[dict[str, Any]]:
    return [
        {"from": report.role, "to": to, "message": kind, "frames": report.traffic.frames[to, kind], "bytes": size}
        for (to, kind), size in report.traffic.size.items()
    ]


def _judged(finding: Finding, slug: str, arm: Arm) -> dict[str, Any]:
    """An attack on a seat, as its victim knows it."""
    verdict = finding.verdict
    known = {
        name: value for name, value in _finding(finding, slug, arm).items() if name not in ("claim", "saw", "used")
    }
    return known | {"metric": finding.aim.metric, "scores": dict(verdict.scores), "chances": dict(verdict.chance)}


def _finding(finding: Finding, slug: str, arm: Arm) -> dict[str, Any]:
    aim, claim = finding.aim, claim_file(slug, finding)
    return {
        "trial": aim.number,
        "attack": aim.attack.model_dump(mode="json"),
        "label": aim.attack.caption(),
        "paper": aim.attack.paper,
        "about": aim.attack.about,
        "seat": aim.seat,
        "victim": aim.victim,
        "granted": list(aim.knows),
        "saw": dict(finding.saw),
        "used": list(finding.used),
        "notes": dict(finding.claim.notes),
        "seconds": finding.seconds,
        "claim": claim,
        "shown": shown_file(claim) if exhibits(finding, arm) else None,
    }
