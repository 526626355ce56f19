"""The one place where a role meets a network: greeting, meeting, building, disclosing, playing, claiming, judging."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedsim.channel import Placed, tap
from fedsim.config import ScenarioFile
from fedsim.cuts import Cuts, agree
from fedsim.errors import ConfigError, ProtocolError, ThreatModelError
from fedsim.figure import plain
from fedsim.message import Message, RoleId, tensors_of
from fedsim.net import INSTEAD, Net, Watch
from fedsim.outcome import Finding, NoiseSource, SeatReport
from fedsim.plan import Aim, Plan, Secrets
from fedsim.role import Role
from fedsim.seeding import Rng, SeatRoot, determine
from fedsim.threat import Attack, Claim, Disclosure, Fact, Knowledge, Verdict, Victim
from fedsim.transport.base import Transport
from fedsim.waiting import reminding

COUNTED = hasattr(Tensor, "_version")
"""Whether this torch counts who writes to a tensor. The name is private."""


@dataclass(frozen=True, eq=False)
class Hello(Message):
    """Prologue, from each seat to the hub and back: who I am not is known to the transport; what I play is this."""

    digest: str


@dataclass
class Intruder:
    """An attack at work at this seat: its knowledge, its tap, and how many messages of each kind the tap saw."""

    aim: Aim
    attack: Attack[Any]
    knowledge: Knowledge
    tap: Placed[Any]
    saw: Counter[str] = field(default_factory=Counter)


async def play(
    file: ScenarioFile,
    role: RoleId,
    transport: Transport,
    *,
    plan: Plan | None = None,
    secrets: Secrets = Secrets(),  # noqa: B008 (frozen)
    watch: Watch = lambda role, row: None,
    reminds: float | None = None,
) -> SeatReport:
    """Play one seat of a scenario from greeting to verdicts.

    Args:
        file: one arm of a scenario file.
        role: which seat this process owns.
        transport: the way to the other seats; left open.
        plan: what to play instead of the file's own plan (a prediction).
        secrets: this seat's own; in simulations they follow from the seed.
        watch: shown every row that the role logs.
        reminds: seconds for which the role may wait for one message before people are told so; None: they are not, as
            the transport notices by itself that nobody can go on.
    """
    determine(file.threads)
    cut = plan is None and file.checkpoint is not None and bool(file.checkpoint.folder)
    plan, public = plan or file.plan(), Rng.root(file.seed)
    find_root = partial(secrets.root, file.digest(), file.seed, role)
    net = Net(role, plan.hub, plan.roster, transport, watch=watch)
    net.instead = None if reminds is None else INSTEAD
    await _greet(file, net)
    if not cut or not plan.seats[role].trains:
        return await _play(file, plan, net, public, find_root(), secrets, reminds)
    cuts = await agree(file, [name for name, seat in plan.seats.items() if seat.trains], net, find_root)
    try:
        return await _play(file, plan, net, public, cuts.root, secrets, reminds, cuts)
    finally:
        cuts.close()


async def _play(
    file: ScenarioFile,
    plan: Plan,
    net: Net,
    public: Rng,
    root: SeatRoot,
    secrets: Secrets,
    reminds: float | None,
    cuts: Cuts | None = None,
) -> SeatReport:
    """What comes after the greeting."""
    role, private = net.me, root.rng
    seat = plan.seats[role]
    if seat.meet is not None:
        seat = await seat.meet(net, ids_key(secrets, public))
    me: Role = seat.build(public, private)
    for i, wrapper in enumerate(plan.wrappers.get(role, ())):
        me = wrapper.wrap(me, public.child("wrapper", role, i))
    stages = _place_stages(plan, net, private)
    intruders = await _disclose(plan, me, net, private)
    if role == plan.hub:
        net.missing = {party: policy for policy in file.missing for party in policy.only or net.peers}
    if cuts is not None:
        cuts.stages = [*(placed for _, placed in stages), *(intruder.tap for intruder in intruders)]
        cuts.saw = [intruder.saw for intruder in intruders]
        net.cuts = cuts
    async with reminding(net, reminds, _advice(file, net)):
        await me.run(net)
    findings, judged, exhibits = await _settle(plan, me, intruders, net, public, file.threads)
    rows = [dict(row) for row in net.rows]
    numbers: list[Mapping[str, Any]] = [{**name, **_numbers(placed.state)} for name, placed in stages]
    figures = [plain(figure) for figure in net.figures]
    source: NoiseSource = "seed" if root.simulated else "secret"
    return SeatReport(
        role,
        rows,
        me.tensors(),
        me.sidecar(),
        me.describe(),
        net.traffic,
        findings,
        exhibits,
        numbers,
        figures,
        source,
        judged=judged,
    )


def _advice(file: ScenarioFile, net: Net) -> str:
    """What to do about a peer that says nothing; empty if the file says it already, or cannot."""
    could = net.me == net.hub and not file.missing and file.scenario.misses
    return "; missing: {policy: error, after: SECONDS} in the file ends such a wait" if could else ""


def ids_key(secrets: Secrets, public: Rng) -> bytes:
    """What ids are hashed with.

    Raises:
        ConfigError: this seat has a secret of its own and yet would hash ids with a key that anybody can work out.
    """
    if secrets.ids is None and secrets.own is not None:
        raise ConfigError("this seat has a secret of its own, but no key to hash ids with; expected both or neither")
    return public.child("ids").key if secrets.ids is None else secrets.ids


async def _greet(file: ScenarioFile, net: Net) -> None:
    """Refuse a peer that plays another experiment.

    Raises:
        ProtocolError: names the peer and both digests.
    """
    mine = file.accord()
    hello = Hello(0, mine, purpose="query")
    if net.me == net.hub:
        peers: Mapping[RoleId, Hello] = await net.gather(Hello, 0)
        await net.broadcast(hello)
    else:
        await net.send(net.hub, hello)
        peers = {net.hub: await net.recv(net.hub, Hello, 0)}
    for peer, theirs in peers.items():
        if theirs.digest != mine:
            more = "" if file.checkpoint is None else ", or not the same checkpoint.every"
            raise ProtocolError(
                f"{peer} plays scenario {theirs.digest[:8]}, {net.me} plays {mine[:8]}: not the same file{more}"
            )


def _place_stages(plan: Plan, net: Net, private: Rng) -> list[tuple[dict[str, Any], Placed[Any]]]:
    """Put the file's stages on this seat's ends of its links; returns them with where they lie."""
    placed: list[tuple[dict[str, Any], Placed[Any]]] = []
    for i, link in enumerate(plan.links):
        for peer in plan.neighbours(net.me):
            ends = (
                (link.joins(net.me, peer), link.sender, net.outgoing[peer], f"{net.me} -> {peer}, at {net.me}"),
                (link.joins(peer, net.me), link.receiver, net.incoming[peer], f"{peer} -> {net.me}, at {net.me}"),
            )
            for lies, defences, way, name in ends:
                for j, stage in enumerate(link.stages(defences, plan.kinds) if lies else ()):
                    way.append(Placed(stage, private.child("stage", peer, i, j)))
                    placed.append(({"link": name, "stage": defences[j].kind()}, way[-1]))
    return placed


def _numbers(state: Any) -> dict[str, float]:
    """The plain numbers a stage keeps at the top of its state."""
    if not dataclasses.is_dataclass(state):
        return {}
    values = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    return {name: value for name, value in values.items() if type(value) in (int, float)}


async def _disclose(plan: Plan, me: Role, net: Net, private: Rng) -> list[Intruder]:
    """Victims send what was granted, attackers arm themselves and put their taps on the link."""
    intruders = []
    for index, aim in plan.aims_by_seat.get(net.me, ()):
        told = [name for name in aim.knows if name not in plan.seats[aim.seat].knows]
        if aim.victim == net.me:
            assert isinstance(me, Victim)
            for i, name in enumerate(told):
                fact = me.disclose(name)
                step = index * 100 + i
                await net.send(aim.seat, Disclosure(step, name, json.dumps(fact.config), fact.tensors, purpose="query"))
        if aim.seat == net.me:
            granted: dict[str, Any] = {name: me.knows(name) for name in aim.knows if name not in told}
            for i, name in enumerate(told):
                granted[name] = _fact(await net.recv(aim.victim, Disclosure, index * 100 + i), name)
            intruders.append(_arm(aim, index, Knowledge(granted), private))
    for intruder in intruders:  # only now, so that no attacker sees what another is told
        net.outgoing[intruder.aim.victim].append(intruder.tap)  # sees what leaves here, after every stage
        net.incoming[intruder.aim.victim].insert(0, intruder.tap)  # and what arrives, before every stage
    return intruders


def _fact(disclosure: Disclosure, name: str) -> Fact:
    try:
        config = json.loads(disclosure.config)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the disclosure of '{name}' is not JSON") from error
    if disclosure.about != name or not isinstance(config, dict):
        raise ProtocolError(f"expected the disclosure of '{name}', found '{disclosure.about[:40]}'")
    return Fact(config, disclosure.tensors)


def _arm(aim: Aim, index: int, knowledge: Knowledge, private: Rng) -> Intruder:
    attack, saw = aim.attack.attack(), Counter[str]()

    def observe(message: Message, state: Any) -> Any:
        saw[message.kind()] += 1
        before = _writings(message)
        after = attack.observe(message, state)
        if _writings(message) != before:
            raise ThreatModelError(f"attack '{aim.attack.kind()}' wrote to a message that it may only look at")
        return after

    eavesdropper = tap(lambda rng: attack.init(knowledge, rng), observe)
    return Intruder(aim, attack, knowledge, Placed(eavesdropper, private.child("attack", index)), saw)


def _writings(message: Message) -> list[int]:
    """A number for each tensor of a message that is another one after somebody wrote to it.

    It is how often torch saw the tensor written to, and a hash of its bytes where torch does not tell.
    """
    return [t._version if COUNTED else hash(_bytes(t)) for t in tensors_of(message).values()]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


async def _settle(
    plan: Plan, me: Role, intruders: list[Intruder], net: Net, public: Rng, threads: int
) -> tuple[list[Finding], list[Finding], dict[str, Tensor]]:
    """Run the epilogue, in which attackers claim and victims judge.

    Returns:
        The attacks from this seat, the attacks on it, and the rows of truth beside claim that it keeps as a victim.
    """
    for intruder in intruders:  # claims and verdicts are not for the taps
        net.outgoing[intruder.aim.victim].remove(intruder.tap)
        net.incoming[intruder.aim.victim].remove(intruder.tap)
    findings: list[Finding] = []
    judged: list[Finding] = []
    exhibits: dict[str, Tensor] = {}
    armed = iter(intruders)
    claims = await _claims(intruders, net, threads)
    for index, aim in plan.aims_by_seat.get(net.me, ()):
        if aim.seat == net.me:
            intruder, (claim, seconds) = next(armed), claims[len(findings)]
            await net.send(aim.victim, dataclasses.replace(claim, step=index, purpose="query"))
            verdict = await net.recv(aim.victim, Verdict, index)
            _check_metric(aim, verdict)
            used = tuple(sorted(intruder.knowledge.used))
            findings.append(Finding(aim, claim, verdict, dict(intruder.saw), used, seconds))
        if aim.victim == net.me:
            assert isinstance(me, Victim)
            claim = await net.recv(aim.seat, Claim, index)
            found = me.judge(claim, public.child("judge", index))
            verdict = Verdict(index, dict(found.scores), dict(found.chance), purpose="query")
            await net.send(aim.seat, verdict)
            judged.append(Finding(aim, claim, verdict, {}, (), 0.0))
            exhibits |= {f"{index}/{name}": rows for name, rows in found.exhibits.items()}
    return findings, judged, exhibits


def _check_metric(aim: Aim, verdict: Verdict) -> None:
    if aim.metric not in verdict.scores:
        raise ThreatModelError(
            f"{aim.victim} cannot judge '{aim.attack.kind()}' by {aim.metric}; it has {', '.join(verdict.scores)}"
        )


async def _claims(intruders: list[Intruder], net: Net, threads: int) -> list[tuple[Claim, float]]:
    """Work out the claims in worker threads, so that a stream's heartbeats go on; results do not depend on their order.

    A cancelled run ends them at the next sign of life they give.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(os.cpu_count(), initializer=determine, initargs=(threads,)) as pool:
        try:
            work = [loop.run_in_executor(pool, _claim, intruder, net, loop, stop) for intruder in intruders]
            return list(await asyncio.gather(*work))
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _claim(intruder: Intruder, net: Net, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> tuple[Claim, float]:
    name, start = f"{intruder.aim.attack.caption()} against {intruder.aim.victim}", time.perf_counter()

    def tell(done: float) -> None:
        if stop.is_set():
            raise InterruptedError(f"{name} was stopped")
        loop.call_soon_threadsafe(net.show, {"claim": name, "done": done})

    tell(0.0)
    claim = intruder.attack.claim(intruder.tap.state, tell)
    tell(1.0)
    return claim, time.perf_counter() - start
