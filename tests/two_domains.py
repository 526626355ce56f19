"""A small federation over two domains, for tests that poison it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from fedsim.config import ScenarioFile, validate
from fedsim.outcome import SeatReport
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder
from fedsim.runtime.local import Local, memory, play_all
from fedsim.seeding import Rng, simulated_secret
from fedsim.state import digest

DATA = {"kind": "domains", "count": 400, "rows": 300, "test": 100, "shift": 5, "nuisance": 0.6}
PARTIES = {"a": {"columns": "0:8"}, "b": {"columns": "8:16"}}
SCENARIO = {
    "kind": "uda_poisoning",
    "data": DATA,
    "parties": PARTIES,
    "bottom": {"kind": "mlp", "hidden": [32]},
    "embedding": 8,
    "top": {"kind": "mlp", "hidden": [16]},
    "optimiser": {"kind": "adam", "lr": 0.002, "beta1": 0.5},
    "batch": 50,
    "steps": 12,
    "evaluate": 12,
    "grants": {"server": ["target_labels"]},
}


def make_file(seats: Mapping[str, Any] | None = None, **more: Any) -> ScenarioFile:
    return validate({"seed": 3, "scenario": {**SCENARIO, **more}, "seats": seats or {}}, "test", {})


def run(seats: Mapping[str, Any] | None = None, **more: Any) -> dict[str, SeatReport]:
    return {report.role: report for report in Local().run(make_file(seats, **more), lambda role, row: None)}


def weights(reports: Mapping[str, SeatReport]) -> dict[str, str]:
    return {role: digest(report.tensors) for role, report in reports.items()}


def scores(reports: Mapping[str, SeatReport]) -> Mapping[str, float]:
    return [row["test"] for row in reports["server"].rows if "test" in row][-1]


def build(file: ScenarioFile) -> dict[str, Any]:
    public, plan = Rng.root(file.seed), file.plan()
    return {
        role: seat.build(public, Rng.secret(simulated_secret(file.seed, role))) for role, seat in plan.seats.items()
    }


def played(seats: Mapping[str, Any], **more: Any) -> tuple[LabelHolder, dict[str, FeatureParty], dict[str, Tensor]]:
    """The hub and the parties after a run, and the training rows that each party had before."""
    file = make_file(seats, **{"steps": 1, "evaluate": 1, **more})
    roles, plan = build(file), file.plan()
    before = {party: roles[party].bottom.features["train"] for party in PARTIES}
    built = {
        role: replace(seat, build=lambda public, private, role=role: roles[role]) for role, seat in plan.seats.items()
    }
    asyncio.run(play_all(file, memory(plan), plan=replace(plan, seats=built)))
    return roles.pop("server"), roles, before
