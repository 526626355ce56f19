"""What a seat reports when its part is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fedsim.message import RoleId
from fedsim.net import Traffic
from fedsim.plan import Aim
from fedsim.threat import Claim, Verdict


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
