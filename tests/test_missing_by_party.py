"""More than one policy for messages that are missing, each for its own parties."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from small import SMALL
from terminal import TABLE, fedsim, write_table

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.errors import TransportLate
from fedsim.message import Message, RoleId
from fedsim.runtime.local import memory, play_all
from fedsim.transport.base import Transport
from fedsim.transport.wrappers import Drop
from fedsim.vfl.messages import Embedding
from fedsim.wire import decode


def made(missing: Any) -> ScenarioFile:
    scenario = {**SMALL["leakage"]["scenario"], "steps": 9, "evaluate": 9, "window": None}
    return config.validate({"name": "m", "scenario": scenario, "missing": missing}, "m", {})


BOTH = [{"policy": "drop", "after": 5, "only": ["north"]}, {"policy": "error", "after": 4, "only": ["east"]}]


def losing(role: RoleId, step: int) -> dict[RoleId, Transport]:
    """Transports of which one loses the embedding of a training step."""

    def is_lost(dst: RoleId, frame: bytes) -> bool:
        message: Message = decode(frame).message
        return isinstance(message, Embedding) and message.purpose == "train" and message.step == step

    transports: dict[RoleId, Transport] = memory(made(BOTH).plan())
    transports[role] = Drop(transports[role], is_lost)
    return transports


def test_each_party_has_its_own() -> None:
    reports = asyncio.run(play_all(made(BOTH), losing("north", 3)))
    rows = next(report.rows for report in reports if report.role == "server")
    assert [row for row in rows if "missing" in row] == [{"step": 3, "missing": ["north"]}]
    with pytest.raises(
        TransportLate, match=r"^server waits for Embedding of step 3 from east, and waited long enough$"
    ):
        asyncio.run(play_all(made(BOTH), losing("east", 3)))


def test_one_policy_is_the_same_experiment_in_a_list_and_without() -> None:
    one = {"policy": "drop", "after": 5.0}
    assert made(one).digest() == made([one]).digest() != made(BOTH).digest()
    assert made(one).resolved()["missing"] == {**one, "only": []}
    assert made(None).digest() == made([]).digest()
    again = config.validate(made(BOTH).resolved(), "m", {})
    assert (again.missing, again.digest()) == (made(BOTH).missing, made(BOTH).digest())


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            "[{only: [a]}, {only: [b, a]}]",
            "missing.1.only: 'a' has a policy already; expected one for each party at most",
        ),
        (
            "[{only: [a]}, {policy: wait}]",
            "missing.1.only: names no party; where there are several policies each names its",
        ),
        ("[{only: [a]}, {only: [c]}]", "missing.1.only: no party 'c'; allowed: a, b"),
        ("[{only: [a]}, {only: [b], after: 0}]", "missing.1.after: expected more than 0"),
        ("drop", "missing: expected a mapping, such as {policy: drop, after: 5}, or a list of them"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, why: str
) -> None:
    write_table(tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(TABLE + f"missing: {value}\n")
    said = fedsim("check", "s.yaml")
    assert (said.code, why in said.err) == (2, True), said.err
