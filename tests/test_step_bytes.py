"""The bytes of a step that `fedsim check` shows are those that a run sends, and the messages of a plan those that it has."""

from __future__ import annotations

from typing import Any

import pytest
from small import SMALL

from fedsim.config import ScenarioFile, validate
from fedsim.experiment import build
from fedsim.outcome import SeatReport
from fedsim.runtime.local import Local

CONTRASTIVE: dict[str, Any] = {**SMALL["contrastive"]["scenario"], "pretraining": None}
PRETRAINED = [
    {"kind": "simclr"},
    {"kind": "rocl"},
    {"kind": "acl"},
    {"kind": "ours"},
    {"kind": "advcl", "pseudo": {"of": "embeddings", "sizes": [2], "start": 0.0}},
    {"kind": "simclr", "pseudo": {"sizes": [2]}},
]


def made(scenario: dict[str, Any]) -> ScenarioFile:
    return validate({"scenario": scenario}, "t", {})


def played(file: ScenarioFile) -> list[SeatReport]:
    """The seats' reports; what they have sent is what the plan says, but replies to attacks: no row may be worth one."""
    reports = Local().run(file, lambda role, row: None)
    sent = {(kind, r.role, to) for r in reports for to, kind in r.traffic.frames if kind not in ("Hello", "Reply")}
    assert sent == {(flow.kind, flow.frm, flow.to) for flow in file.plan().flows if flow.kind != "Reply"}
    return reports


def told(file: ScenarioFile) -> int:
    """What the check adds up, in bytes."""
    abouts = [role.describe() for role in build(file, "t", file).values()]
    return sum(about["bytes"][kind] for about in abouts if "bytes" in about for kind in ("Embedding", "Gradient"))


def spent(scenario: dict[str, Any], stage: int) -> float:
    """What all seats send in a stage, in bytes."""
    figures = [figure for report in played(made(scenario)) for figure in report.figures]
    (cells,) = next(figure["values"] for figure in figures if figure["title"].startswith("Traffic by stage"))
    return float(cells[stage]) * 1e6


@pytest.mark.parametrize("pretraining", PRETRAINED)
def test_a_pre_training_step(pretraining: dict[str, Any]) -> None:
    short, long = ({**CONTRASTIVE, "pretraining": pretraining, "steps": steps} for steps in (1, 3))
    assert (spent(long, 0) - spent(short, 0)) / 2 == pytest.approx(told(made(long)), rel=0.01)


@pytest.mark.parametrize("mode", ["slf", "alf", "aff", "full", "trades"])
def test_a_fine_tuning_step(mode: str) -> None:
    tuning = {**CONTRASTIVE["finetuning"], "mode": mode}
    short, long = ({**CONTRASTIVE, "finetuning": {**tuning, "steps": steps}} for steps in (1, 3))
    assert (spent(long, 1) - spent(short, 1)) / 2 == pytest.approx(told(made(long)), rel=0.01)


@pytest.mark.parametrize("learner", ["dann", "mcd"])
def test_a_step_of_several_exchanges(learner: str) -> None:
    plain = {**SMALL["uda_poisoning"]["scenario"], "learner": {"kind": learner}, "grants": {}}

    def sent(steps: int) -> int:
        reports = played(made({**plain, "steps": steps, "evaluate": 12}))
        return sum(
            size for r in reports for (_, kind), size in r.traffic.size.items() if kind in ("Embedding", "Gradient")
        )

    assert (sent(4) - sent(2)) / 2 == pytest.approx(told(made(plain)), rel=0.01)
