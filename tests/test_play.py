"""A played scenario: the same numbers every time, looking changes nothing, and failures are told by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import fedsim.parties.wrappers
import fedsim.scenarios.attacks
import fedsim.scenarios.defences
from fedsim.config import ScenarioFile, validate
from fedsim.errors import DataError, ProtocolError, StallError, ThreatModelError
from fedsim.message import Message, RoleId
from fedsim.outcome import SeatReport
from fedsim.plan import Secrets
from fedsim.play import play
from fedsim.runtime.local import memory, play_all
from fedsim.seeding import Rng, simulated_secret
from fedsim.state import digest
from fedsim.transport.base import Transport
from fedsim.transport.wrappers import Drop, Record, Reorder
from fedsim.vfl.messages import Embedding
from fedsim.wire import decode

PEEK = '''
from dataclasses import dataclass

from fedsim.channel import tap
from fedsim.threat import Defence


@dataclass(frozen=True)
class Seen:
    messages: int = 0


class Peek(Defence):
    """Counts what passes."""

    def stage(self):
        return tap(lambda rng: Seen(), lambda message, seen: Seen(seen.messages + 1))
'''
WRAPPERS = {
    "blind": '''
import torch

from fedsim.threat import Wrapper


class Blinded:
    def __init__(self, role, rng):
        self.role, self.rng = role, rng

    async def run(self, net):
        features = self.role.bottom.features
        self.role.bottom.features = {purpose: torch.zeros_like(rows) for purpose, rows in features.items()}
        await self.role.run(net)

    def describe(self):
        return {**self.role.describe(), "wrapped with": self.rng.key.hex()}

    def __getattr__(self, name):
        return getattr(self.role, name)


class Blind(Wrapper):
    """The seat sees zeros in the place of its features."""

    def wrap(self, role, rng):
        return Blinded(role, rng)
''',
    "boom": '''
from fedsim.threat import Wrapper


class Failing:
    def __init__(self, role):
        self.role = role

    async def run(self, net):
        raise RuntimeError("boom")

    def __getattr__(self, name):
        return getattr(self.role, name)


class Boom(Wrapper):
    """The seat fails as soon as it plays."""

    def wrap(self, role, rng):
        return Failing(role)
''',
}
TABLE = {"kind": "synthetic", "count": 150, "features": 9, "informative": 6, "imbalance": 0.2}
SCENARIO = {
    "kind": "leakage",
    "data": TABLE,
    "parties": {"a": {"columns": "0:3"}, "b": {"columns": "3:6"}, "c": {"columns": "6:9"}},
    "bottom": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    "embedding": 4,
    "batch": 16,
    "steps": 20,
    "evaluate": 5,
}
LISTEN = {"attack": {"kind": "norm_scoring"}, "seat": "b", "victim": "server", "knows": ["rows"]}
CAFE = {"attack": {"kind": "cafe"}, "seat": "server", "knows": ["rows", "bottom"]}
NOISE = {"from": "a", "to": "server", "message": "Embedding", "sender": [{"kind": "gaussian_noise", "sigma": 0.5}]}


def make_file(seed: int = 5, file: Mapping[str, Any] | None = None, **settings: Any) -> ScenarioFile:
    return validate({"name": "test", "seed": seed, "scenario": {**SCENARIO, **settings}, **(file or {})}, "test", {})


def run(file: ScenarioFile, transports: Mapping[RoleId, Transport] | None = None) -> dict[RoleId, SeatReport]:
    reports = asyncio.run(play_all(file, transports or memory(file.plan())))
    return {report.role: report for report in reports}


def outcome(reports: Mapping[RoleId, SeatReport]) -> dict[str, Any]:
    """All that is a result: weights, logged rows, traffic, claims and verdicts."""
    return {
        role: {
            "weights_sha256": digest(report.tensors),
            "rows": report.rows,
            "traffic": report.traffic,
            "claims": [(digest({"values": f.claim.values}), f.verdict.scores, f.saw) for f in report.findings],
        }
        for role, report in reports.items()
    }


async def each_with_its_own(
    files: Mapping[RoleId, ScenarioFile], transports: Mapping[RoleId, Transport], secrets: Mapping[RoleId, bytes | None]
) -> dict[RoleId, SeatReport]:
    """Play every seat with the file and the secret that it has by itself; the first failure ends all."""
    tasks = [asyncio.create_task(play(f, r, transports[r], secrets=Secrets(secrets.get(r)))) for r, f in files.items()]
    try:
        return {report.role: report for report in await asyncio.gather(*tasks)}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return outcome(run(make_file(file={"trials": [LISTEN]})))


def test_the_same_file_and_seed_give_the_same_weights_rows_and_traffic(plain: dict[str, Any]) -> None:
    assert outcome(run(make_file(file={"trials": [LISTEN]}))) == plain
    assert plain["b"]["claims"]
    assert plain["server"]["traffic"].frames["a", "Gradient"] == 20


def test_another_seed_gives_other_weights(plain: dict[str, Any]) -> None:
    other = outcome(run(make_file(seed=6, file={"trials": [LISTEN]})))
    assert all(other[role]["weights_sha256"] != found["weights_sha256"] for role, found in plain.items())
    assert other["server"]["rows"] != plain["server"]["rows"]


def test_a_tap_on_both_ends_of_every_link_changes_nothing(
    plain: dict[str, Any], add_kind: Callable[[Any, str, str], str]
) -> None:
    peek = {"kind": add_kind(fedsim.scenarios.defences, "peek", PEEK)}
    reports = run(make_file(file={"trials": [LISTEN], "links": [{"sender": [peek], "receiver": [peek]}]}))
    assert outcome(reports) == plain
    for party in ("a", "b", "c"):
        frames = reports[party].traffic.frames
        ends = {stage["link"]: stage["messages"] for stage in reports[party].stages}
        sent = ends[f"{party} -> server, at {party}"]
        assert sent == frames["server", "Rows"] + frames["server", "Embedding"] == 1 + 20 + 4
        received = {stage["link"]: stage["messages"] for stage in reports["server"].stages}
        assert received[f"{party} -> server, at server"] == sent
        assert ends[f"server -> {party}, at {party}"] == received[f"server -> {party}, at server"] == 20


def test_stages_do_not_touch_what_is_claimed_and_judged() -> None:
    everything = [{"from": "b", "receiver": [{"kind": "clip", "norm": 1e6}]}, {"to": "b", "sender": [{"kind": "clip"}]}]
    reports = run(make_file(file={"trials": [LISTEN], "links": everything}))
    assert {key[1] for key in reports["b"].traffic.frames} == {"Hello", "Rows", "Embedding", "Claim"}
    ends = {stage["link"]: stage["messages"] for stage in reports["server"].stages}
    assert ends == {"b -> server, at server": 1 + 20 + 4, "server -> b, at server": 20}


def test_empty_lists_of_stages_change_nothing(plain: dict[str, Any]) -> None:
    links = [{"sender": [], "receiver": []}, {"from": "a", "to": "server", "message": "Embedding"}]
    assert outcome(run(make_file(file={"trials": [LISTEN], "links": links}))) == plain


@pytest.mark.parametrize("exchange", ["split", "shared"])
def test_the_order_of_delivery_changes_nothing(exchange: str) -> None:
    trials = [LISTEN] if exchange == "split" else [CAFE]
    file = make_file(file={"trials": trials}, exchange=exchange)
    received, expected = [], outcome(run(file))
    for shuffle in range(2):
        inner = {role: Record(transport) for role, transport in memory(file.plan()).items()}
        shuffled = {role: Reorder(inner[role], Rng.root(shuffle).child(role)) for role in inner}
        reordered = {role: Record(transport) for role, transport in shuffled.items()}
        assert outcome(run(file, reordered)) == expected
        received.append([src for src, _ in reordered["server"].received])
    assert received[0] != received[1]


def first_embedding(file: ScenarioFile) -> Tensor:
    """What party a sends for the first batch, as the server receives it."""
    inner = memory(file.plan())
    transports: dict[RoleId, Transport] = {**inner, "server": (record := Record(inner["server"]))}
    asyncio.run(each_with_its_own(dict.fromkeys(inner, file), transports, {}))
    messages = (decode(frame).message for src, frame in record.received if src == "a")
    return next(m.z for m in messages if isinstance(m, Embedding))


def test_whoever_has_the_file_can_subtract_the_noise_of_a_simulation() -> None:
    defended, bare = make_file(file={"links": [NOISE]}, steps=1), make_file(steps=1)
    noise = first_embedding(defended) - first_embedding(bare)
    node = Rng.secret(simulated_secret(5, "a")).child("stage", "server", 0, 0)  # all that follows from the public seed
    stage = defended.plan().links[0].sender[0].stage()
    guessed = stage.apply(Embedding(0, torch.zeros_like(noise)), stage.init(node))[0]
    assert isinstance(guessed, Embedding)
    assert torch.allclose(guessed.z, noise, atol=1e-5)


def test_a_secret_decides_the_initial_weights_and_the_public_seed_the_batches() -> None:
    seat = make_file().plan().seats["a"]
    one, other = (seat.build(Rng.root(5), Rng.secret(secret)) for secret in (b"one", b"other"))
    assert digest(one.tensors()) != digest(other.tensors())
    mine, theirs = one.knows("rows"), other.knows("rows")
    assert len(mine) == 20
    assert all(torch.equal(rows, theirs[step]) for step, rows in mine.items())
    reseeded = seat.build(Rng.root(6), Rng.secret(b"one")).knows("rows")
    assert not all(torch.equal(rows, reseeded[step]) for step, rows in mine.items() if step in reseeded)


def test_a_peer_that_plays_another_file_is_refused_by_name() -> None:
    files = {role: make_file(seed=6 if role == "b" else 5) for role in ("server", "a", "b", "c")}
    digests = f"b plays scenario {files['b'].digest()[:8]}, server plays {files['a'].digest()[:8]}: not the same file"
    with pytest.raises(ProtocolError, match=digests):
        asyncio.run(each_with_its_own(files, memory(files["a"].plan()), {}))


def test_parties_that_hold_different_numbers_of_rows_are_refused_by_name(tmp_path: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 9)), columns=[f"x{k}" for k in range(9)])
    table["label"] = np.arange(120) % 2
    table.to_csv(tmp_path / "all.csv", index=False)
    table[:110].to_csv(tmp_path / "short.csv", index=False)
    files = {
        role: make_file(data={"kind": "csv", "label": "label", "path": str(tmp_path / name)})
        for role, name in {"server": "all.csv", "a": "all.csv", "b": "short.csv", "c": "all.csv"}.items()
    }
    said = "b holds 88 training and 22 held-out rows, server holds 96 and 24"
    with pytest.raises(DataError, match=said):
        asyncio.run(each_with_its_own(files, memory(files["a"].plan()), {}))


def test_a_lost_frame_is_a_stall_that_names_who_waits_for_what() -> None:
    def second_embedding(dst: RoleId, frame: bytes) -> bool:
        message: Message = decode(frame).message
        return isinstance(message, Embedding) and message.step == 1

    file = make_file()
    transports: dict[RoleId, Transport] = memory(file.plan())
    transports["b"] = Drop(transports["b"], second_embedding)
    with pytest.raises(StallError) as stall:
        run(file, transports)
    assert "server waits for Embedding of step 1 from b" in str(stall.value)
    for party in ("a", "b", "c"):
        assert f"{party} waits for Gradient of step 1 from server" in str(stall.value)


def test_the_audit_says_what_was_granted_seen_and_used() -> None:
    trials = [CAFE | {"victim": "b", "knows": ["rows", "bottom", "labels"]}, LISTEN | {"seat": "c"}]
    reports = run(make_file(exchange="shared", file={"trials": trials}))
    (cafe,), (norms,) = reports["server"].findings, reports["c"].findings
    evaluations = 4
    assert cafe.aim.knows == ("rows", "bottom", "labels")
    assert cafe.used == ("bottom", "rows")
    assert cafe.saw == {
        "Rows": 1,
        "Model": 21,
        "Embedding": 20 + evaluations,
        "Gradient": 20,
        "ParameterGradient": 20,
    }
    assert norms.used == norms.aim.knows == ("rows",)
    assert norms.saw == cafe.saw
    assert reports["a"].findings == []


PEEKS = """
from fedsim import Attack, AttackConfig, Claim


class Peeks(AttackConfig):
    about = "features"
    sees = ("Gradient",)
    metrics = ("psnr",)

    def attack(self):
        return Attack(lambda knowledge, rng: (), observe, lambda state, tell: None)


def observe(message, state):
    if message.kind() == "Gradient":
        message.g.zero_()
    return state
"""


def test_an_attack_that_writes_to_a_message_ends_the_run(add_kind: Callable[[Any, str, str], str]) -> None:
    trial = {"attack": {"kind": add_kind(fedsim.scenarios.attacks, "peeks", PEEKS)}, "seat": "server", "victim": "a"}
    with pytest.raises(ThreatModelError, match="'peeks' wrote to a message"):
        run(make_file(file={"trials": [trial]}))


def test_no_attacker_sees_what_another_is_told() -> None:
    trials = [CAFE | {"victim": "b"}, CAFE | {"victim": "b", "attack": {"kind": "cafe", "matching": "cosine"}}]
    one, other = run(make_file(exchange="shared", file={"trials": trials}))["server"].findings
    assert one.saw == other.saw
    assert set(one.saw) == {"Rows", "Model", "Embedding", "Gradient", "ParameterGradient"}


def test_a_wrapper_plays_in_the_place_of_the_seats_own_role(add_kind: Callable[[Any, str, str], str]) -> None:
    kind = add_kind(fedsim.parties.wrappers, "blind", WRAPPERS["blind"])
    file = make_file(file={"seats": {"b": [{"kind": kind}]}})
    fresh = file.plan().seats["b"].build(Rng.root(5), Rng.secret(simulated_secret(5, "b")))
    reports = run(file)
    assert torch.equal(reports["b"].tensors["0.weight"], fresh.tensors()["0.weight"])  # zeros in, no gradient
    assert not torch.equal(reports["b"].tensors["0.bias"], fresh.tensors()["0.bias"])
    assert reports["b"].describe["wrapped with"] == Rng.root(5).child("wrapper", "b", 0).key.hex()
    assert not any("wrapped with" in reports[role].describe for role in ("server", "a", "c"))


def test_a_failing_role_ends_the_run_with_its_own_error_and_leaves_no_task(
    add_kind: Callable[[Any, str, str], str],
) -> None:
    kind = add_kind(fedsim.parties.wrappers, "boom", WRAPPERS["boom"])
    file = make_file(file={"seats": {"c": [{"kind": kind}]}})

    async def attempt() -> set[asyncio.Task[Any]]:
        with pytest.raises(RuntimeError, match=r"^boom$"):
            await play_all(file, memory(file.plan()))
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(attempt()) == set()
