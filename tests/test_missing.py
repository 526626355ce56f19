"""Parties whose embeddings do not come in time: what the hub trains with instead, and that everybody can see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small import SMALL
from terminal import TABLE, fedsim, write_table
from torch import Tensor

from fedsim import config, experiment
from fedsim.config import ScenarioFile
from fedsim.errors import StallError, TransportLate
from fedsim.message import Message, RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.report import headline, reading
from fedsim.report.view import views
from fedsim.runtime.local import Local, memory, play_all
from fedsim.state import pack, unpack
from fedsim.transport.base import Transport
from fedsim.transport.wrappers import Drop, _Wrapped
from fedsim.vfl.absence import Absences
from fedsim.vfl.messages import Embedding
from fedsim.vfl.schedule import Turn
from fedsim.vfl.top import Top
from fedsim.wire import decode

LOST = (3, 5)


def made(policy: str, exchange: str = "split", **more: Any) -> ScenarioFile:
    scenario = {**SMALL["leakage"]["scenario"], "exchange": exchange, "steps": 9, "evaluate": 9, "window": None}
    missing = {"policy": policy, "after": 5, **more}
    return config.validate({"name": "m", "scenario": scenario, "missing": missing}, "m", {})


def is_lost(dst: RoleId, frame: bytes) -> bool:
    message: Message = decode(frame).message
    return isinstance(message, Embedding) and message.purpose == "train" and message.step in LOST


class Late(_Wrapped):
    """What `Drop` would lose comes after all, with what the seat sends next."""

    held: tuple[RoleId, bytes] | None = None

    async def send(self, dst: RoleId, frame: bytes) -> None:
        if self.held is not None:
            held, self.held = self.held, None
            await self.inner.send(*held)
        if is_lost(dst, frame):
            self.held = (dst, frame)
        else:
            await self.inner.send(dst, frame)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> dict[int, Mapping[RoleId, Tensor]]:
    """What the top was given at each step."""
    found: dict[int, Mapping[RoleId, Tensor]] = {}
    was = Top.step

    def step(self: Top, turn: Turn, embeddings: Mapping[RoleId, Tensor]) -> dict[RoleId, Tensor]:
        found[turn.step] = {party: z.clone() for party, z in embeddings.items()}
        return was(self, turn, embeddings)

    monkeypatch.setattr(Top, "step", step)
    return found


def played(file: ScenarioFile, way: type[Late] | None = None) -> dict[RoleId, SeatReport]:
    transports: dict[RoleId, Transport] = memory(file.plan())
    north = transports["north"]
    transports["north"] = Drop(north, is_lost) if way is None else way(north)
    return {report.role: report for report in asyncio.run(play_all(file, transports))}


@pytest.mark.parametrize("way", [None, Late], ids=["lost", "late"])
@pytest.mark.parametrize("exchange", ["split", "shared"])
@pytest.mark.parametrize("policy", ["drop", "impute"])
def test_what_stands_in_for_an_embedding(
    policy: str, exchange: str, way: type[Late] | None, trained_on: dict[int, Mapping[RoleId, Tensor]]
) -> None:
    reports = played(made(policy, exchange), way)
    assert [row for row in reports["server"].rows if "missing" in row] == [
        {"step": s, "missing": ["north"]} for s in LOST
    ]
    sent = [trained_on[step]["north"] for step in range(9) if step not in LOST]
    for step in LOST:
        seen = torch.cat([z for s, z in zip([s for s in range(9) if s not in LOST], sent, strict=True) if s < step])
        mean = seen.double().mean(dim=0).float() if policy == "impute" else torch.zeros(seen.shape[1])
        assert torch.equal(trained_on[step]["north"], mean.expand(10, -1))
    assert sum("loss" in row for row in reports["server"].rows) == 9


def test_a_party_that_was_missing_learns_nothing_from_that_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_missing.LOST", tuple(range(1, 9)))
    dropped = played(made("drop"))
    short = made("error")
    one = config.validate({**short.resolved(), "scenario": {**short.resolved()["scenario"], "steps": 1}}, "m", {})
    monkeypatch.setattr("test_missing.LOST", ())
    for name, tensor in played(one)["north"].tensors.items():
        assert torch.equal(tensor, dropped["north"].tensors[name])
    assert not torch.equal(played(one)["east"].tensors["0.weight"], dropped["east"].tensors["0.weight"])


def test_without_anybody_missing_nothing_changes() -> None:
    plain = Local().run(config.validate({**made("drop").resolved(), "missing": None}, "m", {}), lambda role, row: None)
    careful = Local().run(made("impute"), lambda role, row: None)
    for one, other in zip(plain, careful, strict=True):
        assert (one.rows, one.traffic) == (other.rows, other.traffic)
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


@pytest.mark.parametrize(
    ("file", "kind", "why"),
    [
        (made("error"), TransportLate, "^server waits for Embedding of step 3 from north, and waited long enough$"),
        (made("wait"), StallError, "server waits for Embedding of step 3 from north"),
        (made("drop", only=["east"]), StallError, "server waits for Embedding of step 3 from north"),
    ],
)
def test_whoever_is_not_done_without_is_named(file: ScenarioFile, kind: type[Exception], why: str) -> None:
    with pytest.raises(kind, match=why):
        played(file)


def test_there_is_no_mean_of_what_never_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_missing.LOST", (0,))
    with pytest.raises(TransportLate, match="north has sent none before, of which the mean could stand in"):
        played(made("impute"))


@pytest.mark.parametrize("exchange", ["split", "shared"])
def test_zeros_stand_in_for_a_party_that_has_sent_nothing_yet(
    exchange: str, monkeypatch: pytest.MonkeyPatch, trained_on: dict[int, Mapping[RoleId, Tensor]]
) -> None:
    monkeypatch.setattr("test_missing.LOST", (0, 1))
    played(made("drop", exchange))
    for step in range(3):
        assert (trained_on[step]["north"] == 0).all() == (step < 2)
        assert trained_on[step]["north"].shape == trained_on[2]["north"].shape


def test_means_are_part_of_a_checkpoint() -> None:
    one, other = (Absences(lambda turn, party: (len(turn.rows), 2)) for _ in range(2))
    one._learn("north train", torch.arange(6.0).view(3, 2))
    other.restore(unpack(pack(one.state()), other.state()))
    one._learn("north train", torch.ones(1, 2))
    other._learn("north train", torch.ones(1, 2))
    assert pack(one.state())[0] == pack(other.state())[0]
    assert torch.equal(one._sums["north train"], other._sums["north train"])


def test_the_summary_and_the_page_count_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("test_missing.LOST", (2, 4))  # an evaluation follows every training step
    (tmp_path / "s.yaml").write_text(TABLE + "missing: {policy: drop}\n")

    def run(self: Local, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        transports: dict[RoleId, Transport] = memory(file.plan())
        transports["a"] = Drop(transports["a"], is_lost)
        return asyncio.run(play_all(file, transports, watch))

    monkeypatch.setattr(Local, "run", run)
    path = experiment.run(config.read("s.yaml"), Path("run"))
    assert json.loads((path / "summary.json").read_text())["missing"] == {"a": 2}
    said = headline.sentences(views([reading.read(path)]))
    assert "With “s” a did not answer in time 2 times; the step went on without it." in said


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("{policy: ignore}", "missing.policy: expected error, wait, drop or impute, found 'ignore'"),
        ("{policy: drop, only: [server]}", "missing.only: no party 'server'; allowed: a, b"),
        ("{policy: drop, after: 0}", "missing.after: expected more than 0"),
    ],
)
def test_what_is_no_policy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, why: str) -> None:
    write_table(tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(TABLE + f"missing: {value}\n")
    said = fedsim("check", "s.yaml")
    assert (said.code, why in said.err) == (2, True), said.err
