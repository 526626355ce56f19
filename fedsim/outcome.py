"""What a seat reports when its part is over, and the report as bytes: what its process hands to the one that started it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from safetensors.torch import save
from torch import Tensor

from fedsim.errors import ContentError
from fedsim.message import RoleId
from fedsim.net import Traffic
from fedsim.plan import Aim, Plan
from fedsim.safejson import parse
from fedsim.tensors import decode
from fedsim.threat import Claim, Verdict

MODEL, SCHEMA, SAMPLES = "model", "schema", "samples"
"""What the operator of a seat may withhold from its report, as `SeatReport.withheld` names it."""
NoiseSource = Literal["seed", "secret"]
"""What a seat's noise and initial weights follow from: the public seed, or a secret and fresh bytes of its own."""


@dataclass(frozen=True)
class Finding:
    """One attack at one victim, as the attacking seat reports it.

    Attributes:
        saw: how many messages of each kind passed its tap.
        used: the granted facts that the attack asked for.
        seconds: how long the claim took; for people, not part of the result.
    """

    aim: Aim
    claim: Claim
    verdict: Verdict
    saw: Mapping[str, int]
    used: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class SeatReport:
    """What one seat leaves behind.

    Attributes:
        rows: what its role logged.
        tensors: the trained parameters that live here, by name.
        sidecar: what else is needed to use them on new rows.
        describe: what sits here, for people.
        findings: the attacks made from here.
        exhibits: as a victim, rows of truth beside claim, by ``<position among the plan's aims>/<name>``.
        stages: per link end and stage, numbers the stage keeps for the report.
        figures: that the role brought, as plain values (`fedsim.figure`).
        noise_source: whether its noise can be computed, and subtracted, by everybody who has the file (``seed``).
        withheld: of ``model``, ``schema`` and ``samples``, what the seat's own operator has kept from this report
            (`fedsim.residency`); None: the report is whole, as in a simulation or in the seat's own process.
        weights_sha256: the digest of the trained parameters where the report does not hold them.
        judged: as a victim, the attacks on this seat with their claims. It is for the seat's own page only:
            the attacker reports the same attacks as ``findings``, and bytes do not carry it.
    """

    role: RoleId
    rows: list[dict[str, Any]]
    tensors: Mapping[str, Tensor]
    sidecar: Mapping[str, Any]
    describe: Mapping[str, Any]
    traffic: Traffic
    findings: list[Finding] = field(default_factory=list)
    exhibits: Mapping[str, Tensor] = field(default_factory=dict)
    stages: list[Mapping[str, Any]] = field(default_factory=list)
    figures: Sequence[Mapping[str, Any]] = ()
    noise_source: NoiseSource = "seed"
    withheld: tuple[str, ...] | None = None
    weights_sha256: str = ""
    judged: Sequence[Finding] = ()


class ReportedRow(BaseModel):
    """A row that a role has logged, as far as a run is summed up from it."""

    step: float | None = None
    test: dict[str, Any] = {}
    baseline: dict[str, Any] = {}
    missing: list[str] = []


class ReportedClaim(BaseModel):
    """A claim without its tensors."""

    model_config = ConfigDict(extra="forbid")
    step: NonNegativeInt
    purpose: str
    about: str
    notes: dict[str, Any]


class ReportedFinding(BaseModel):
    """A finding; the attack by its place among the plan's aims."""

    aim: NonNegativeInt
    claim: ReportedClaim
    verdict: tuple[NonNegativeInt, dict[str, float | None], dict[str, float | None], str]
    saw: dict[str, NonNegativeInt]
    used: list[str]
    seconds: float


class ReportedDescription(BaseModel):
    """What sits at a seat, as far as a run is summed up from it."""

    classes: list[Any] = []


class Reported(BaseModel):
    """The plain values of a report: what a peer says, before anybody takes it for what it should be."""

    role: str
    rows: list[ReportedRow]
    tensors: list[str]
    sidecar: dict[str, Any]
    describe: ReportedDescription
    traffic: list[tuple[str, str, NonNegativeInt, NonNegativeInt]]
    findings: list[ReportedFinding]
    exhibits: list[str]
    stages: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    withheld: list[str] | None
    weights_sha256: str


def to_bytes(report: SeatReport, plan: Plan) -> bytes:
    """A report as one block of bytes (safetensors), for the way to another process."""
    tensors = {f"tensors/{name}": t for name, t in report.tensors.items()}
    tensors |= {f"exhibits/{name}": t for name, t in report.exhibits.items()}
    for i, finding in enumerate(report.findings):
        tensors |= {f"claims/{i}/rows": finding.claim.rows, f"claims/{i}/values": finding.claim.values}
    plain = {
        "role": report.role,
        "rows": report.rows,
        "tensors": list(report.tensors),
        "sidecar": report.sidecar,
        "describe": report.describe,
        "traffic": [[*key, report.traffic.frames[key], size] for key, size in report.traffic.size.items()],
        "findings": [_plain(finding, plan) for finding in report.findings],
        "exhibits": list(report.exhibits),
        "stages": report.stages,
        "figures": list(report.figures),
        "noise_source": report.noise_source,
        "withheld": None if report.withheld is None else list(report.withheld),
        "weights_sha256": report.weights_sha256,
    }
    text = torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8)
    # views of one storage cannot be stored, copies can
    return save({"plain": text, **{name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}})


def from_bytes(block: bytes, plan: Plan) -> SeatReport:
    """What `to_bytes` wrote, for the same plan. It comes from a peer, and is checked.

    Raises:
        ContentError: it is no report of a seat of this plan.
    """
    try:
        tensors = decode(block)
        plain = parse(tensors["plain"].numpy().tobytes(), finite=False)
        Reported.model_validate(plain)
        return _report(plain, tensors, plan)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"])
        raise ContentError(f"not the report of a seat: {where}: {first['msg']}") from error
    except KeyError as error:
        raise ContentError(f"not the report of a seat: it lacks {ascii(error.args[0])[:80]}") from error
    except (ValueError, TypeError) as error:
        raise ContentError(f"not the report of a seat: {' '.join(str(error).split())[:200]}") from error


def _report(plain: Mapping[str, Any], tensors: Mapping[str, Tensor], plan: Plan) -> SeatReport:
    traffic = Traffic()
    for peer, kind, frames, size in plain["traffic"]:
        traffic.frames[peer, kind], traffic.size[peer, kind] = frames, size
    if plain["role"] not in plan.seats:
        raise ValueError(f"no seat {ascii(plain['role'])[:80]}")
    return SeatReport(
        plain["role"],
        plain["rows"],
        {name: tensors[f"tensors/{name}"] for name in plain["tensors"]},
        plain["sidecar"],
        plain["describe"],
        traffic,
        [_finding(each, i, tensors, plan, plain["role"]) for i, each in enumerate(plain["findings"])],
        {name: tensors[f"exhibits/{name}"] for name in plain["exhibits"]},
        plain["stages"],
        plain["figures"],
        "secret" if plain.get("noise_source") == "secret" else "seed",
        None if plain["withheld"] is None else tuple(plain["withheld"]),
        plain["weights_sha256"],
    )


def _plain(finding: Finding, plan: Plan) -> dict[str, Any]:
    claim, verdict = finding.claim, finding.verdict
    return {
        "aim": plan.aims.index(finding.aim),
        "claim": {"step": claim.step, "purpose": claim.purpose, "about": claim.about, "notes": dict(claim.notes)},
        "verdict": [verdict.step, dict(verdict.scores), dict(verdict.chance), verdict.purpose],
        "saw": dict(finding.saw),
        "used": list(finding.used),
        "seconds": finding.seconds,
    }


def _finding(plain: Mapping[str, Any], i: int, tensors: Mapping[str, Tensor], plan: Plan, role: RoleId) -> Finding:
    step, scores, chance, purpose = plain["verdict"]
    if plain["aim"] >= len(plan.aims) or plan.aims[plain["aim"]].seat != role:
        raise ValueError(f"attack {plain['aim']} is none of {role}'s")
    aim = plan.aims[plain["aim"]]
    if aim.metric not in scores:
        raise ValueError(f"attack {plain['aim']} has no {aim.metric}")
    claim = Claim(rows=tensors[f"claims/{i}/rows"], values=tensors[f"claims/{i}/values"], **plain["claim"])
    verdict = Verdict(step, scores, chance, purpose=purpose)
    return Finding(aim, claim, verdict, plain["saw"], tuple(plain["used"]), plain["seconds"])
