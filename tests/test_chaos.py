"""Whatever goes wrong between seats, the result is that of a calm run, or an error names the cause: never a wrong number."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest
from small import DATA, PARTIES

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.errors import FedsimError, ProtocolError, StallError, TransportBroken, WireError
from fedsim.message import RoleId
from fedsim.outcome import SeatReport
from fedsim.runtime.local import memory, play_all
from fedsim.seeding import Rng
from fedsim.testing.runtimes import _check_equal
from fedsim.transport.base import Transport
from fedsim.transport.chaos import FAULTS, HARMLESS, Chaos, Fault, Trouble
from fedsim.transport.memory import MemoryNetwork
from fedsim.transport.wrappers import Record, Sealed

DEADLINE = 240.0
"""Seconds after which a run hangs, on a machine however busy; one takes a tenth of a second."""
TINY = {
    "data": DATA,
    "parties": PARTIES,
    "embedding": 2,
    "batch": 10,
    "steps": 5,
    "evaluate": 3,
    "bottom": {"kind": "linear"},
}
MATCHED = {"attack": {"kind": "norm_scoring"}, "seat": "north", "victim": "server", "knows": ["rows"]}
KINDS = {
    "split": {"scenario": {"kind": "leakage", **TINY}, "trials": [MATCHED]},
    "shared": {"scenario": {"kind": "baseline", "exchange": "shared", **TINY}},
    "at a party": {"scenario": {"kind": "baseline", "labels": "east", **TINY}},
}
FRAMES = 20
"""Of a seat in such a run, about: so late do troubles come at most."""
QUICK, SLOW = range(12), range(12, 252)


@cache
def file(kind: str) -> ScenarioFile:
    return config.validate({"name": kind, **KINDS[kind]}, kind, {})


@cache
def calm(kind: str) -> Sequence[SeatReport]:
    return asyncio.run(play_all(file(kind), memory(file(kind).plan())))


async def _played(kind: str, transports: dict[RoleId, Transport]) -> list[SeatReport]:
    async with asyncio.timeout(DEADLINE):
        return await play_all(file(kind), transports)


def chaos(seed: int) -> tuple[Counter[str], str]:
    """One schedule: one to three troubles at drawn seats and frames; what befell, and the error (empty: a calm result)."""
    rng = Rng.root(seed).child("chaos")
    draw = rng.numpy()
    kind = list(KINDS)[seed % len(KINDS)]
    troubles: dict[RoleId, list[Trouble]] = {role: [] for role in file(kind).plan().roster}
    for _ in range(int(draw.integers(1, 4))):
        fault: Fault = FAULTS[int(draw.integers(len(FAULTS)))]
        troubles[str(draw.choice(list(troubles)))].append(Trouble(fault, int(draw.integers(FRAMES))))
    network = MemoryNetwork(troubles)
    chaotic = {role: Chaos(network.transport(role), troubles[role], rng.child(role)) for role in troubles}
    error = ""
    try:
        reports = asyncio.run(_played(kind, {role: Sealed(transport) for role, transport in chaotic.items()}))
        for mine, theirs in zip(reports, calm(kind), strict=True):
            _check_equal(mine, theirs, f"schedule {seed}, {mine.role}")
    except (StallError, ProtocolError, WireError, TransportBroken) as found:
        error = f"{type(found).__name__}: {found}"
    befell = Counter(str(trouble.fault) for each in chaotic.values() for trouble in dict.fromkeys(each.befell))
    assert not error or any(role in error for role in troubles), f"schedule {seed}: {error}"
    assert not error or befell.keys() - HARMLESS, f"schedule {seed}: {dict(befell)} must not show: {error}"
    return befell, error


@pytest.mark.parametrize("seed", QUICK)
def test_the_result_is_the_calm_one_or_an_error_says_what_went_wrong(seed: int) -> None:
    chaos(seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hundreds_of_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    befell, errors = Counter[str](), Counter[str]()
    for seed in SLOW:
        faults, error = chaos(seed)
        befell += faults
        errors[error.partition(":")[0] or "calm result"] += 1
    with capsys.disabled():
        print(
            f"\n{len(SLOW)} schedules; troubles that befell: {dict(befell)}; ends: {dict(errors)}", file=sys.__stdout__
        )
    assert befell.keys() == set(FAULTS)


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - HARMLESS))
def test_each_fault_that_matters_is_named(fault: Fault) -> None:
    """Early, on the way of a party's embeddings: somebody must notice."""
    network = MemoryNetwork(file("split").plan().roster)
    transports: dict[RoleId, Transport] = {role: network.transport(role) for role in file("split").plan().roster}
    transports["north"] = Chaos(transports["north"], [Trouble(fault, 3)], Rng.root(1))
    why = {
        "duplicate": "north sent frame 3 again",
        "replay": r"north sent frame \d again",
        "drop": "server waits for Embedding of step 1 from north",
        "half-open": "server waits for Embedding of step 1 from north",
        "corrupt": "a frame from north was altered on its way",
        "truncate": "a frame from north was altered on its way",
    }[fault]
    with pytest.raises(FedsimError, match=why):
        asyncio.run(_played("split", {role: Sealed(transport) for role, transport in transports.items()}))


def test_without_a_seal_a_frame_that_is_cut_off_is_no_frame() -> None:
    transports = memory(file("split").plan())
    transports["north"] = Chaos(transports["north"], [Trouble("truncate", 3)], Rng.root(1))
    with pytest.raises(WireError, match="north sent what server cannot read: "):
        asyncio.run(_played("split", transports))


def test_a_seal_costs_its_bytes_and_nothing_else() -> None:
    inner = {role: Record(transport) for role, transport in memory(file("split").plan()).items()}
    reports = asyncio.run(_played("split", {role: Sealed(transport) for role, transport in inner.items()}))
    for mine, theirs in zip(reports, calm("split"), strict=True):
        _check_equal(mine, theirs, mine.role)
    assert sum(len(frame) for each in inner.values() for _, frame in each.sent) == sum(
        report.traffic.size.total() + 16 * report.traffic.frames.total() for report in reports
    )
