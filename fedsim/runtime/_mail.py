"""A run whose frames travel in the post: the hub asks seats, each answers from its start; see `fedsim.transport.post`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fedsim.config import ScenarioFile, validate
from fedsim.errors import FedsimError, ProtocolError, StallError, TransportBroken, suggest
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport, from_bytes, to_bytes
from fedsim.plan import Plan, Secrets
from fedsim.play import play
from fedsim.residency import name_error
from fedsim.runtime._crew import raised
from fedsim.runtime._deployment import TICK
from fedsim.runtime._seat import Belongings
from fedsim.runtime._sharing import identify_operator, is_simulated
from fedsim.seeding import draw_fresh
from fedsim.transport.post import Mail, PostOffice, Replay, Waiting, marked, pack, unpack

Nodes = Callable[[], Awaitable[Iterable[int]]]
"""Which nodes there are."""
Ask = Callable[[Mapping[int, Mapping[str, Any]]], Awaitable[Mapping[int, Mapping[str, Any]]]]
"""What nodes answer, by node, to what each is asked; all of them."""
Release = Callable[[RoleId, ScenarioFile, SeatReport], SeatReport]
Tell = Callable[[RoleId, Exception], tuple[str, str]]
MAX_ERROR_CHARACTERS = 2000
"""What is told of an error that a node tells of."""
SLOW = "frames travel as messages: one way and back takes seconds, and each seat plays again from its start"


async def correspond(
    nodes: Nodes, ask: Ask, file: ScenarioFile, secrets: Secrets, watch: Watch, wait: float
) -> list[SeatReport]:
    """Play the hub, and bring the others their mail until all have reported.

    Seats that are still missing when no node has come for ``wait`` seconds end the run.

    Raises:
        TransportBroken: a seat is missing, or was lost.
        FedsimError: what a seat raised.
    """
    plan = file.plan()
    others = [role for role in plan.roster if role != plan.hub]
    watch(plan.hub, {"notice": SLOW})
    them = _Correspondents(ask, file, plan)
    office = PostOffice(plan.hub, others, them.exchange)
    office.take(await them.find(nodes, others, wait))
    them.reports[plan.hub] = await play(file, plan.hub, office, secrets=secrets, watch=watch)
    while await office.deliver():
        pass
    if missing := [role for role in plan.roster if role not in them.reports]:
        raise StallError(f"{', '.join(missing)} waits for mail when all has been said")
    return [them.reports[role] for role in plan.roster]


class _Correspondents:
    """The seats that are reached by mail, by the node that each is at."""

    def __init__(self, ask: Ask, file: ScenarioFile, plan: Plan) -> None:
        self.reports: dict[RoleId, SeatReport] = {}
        self._ask, self._plan = ask, plan
        self._about = {
            "run": os.urandom(16).hex(),
            "file": json.dumps(file.resolved()),
            "operator": identify_operator(),
        }
        self._at: dict[RoleId, int] = {}

    async def find(self, nodes: Nodes, roles: Iterable[RoleId], seconds: float) -> dict[RoleId, Mail]:
        """Ask every node that there is whose seat it has, until all seats are found; their first mail.

        Raises:
            TransportBroken: no node has come for so many seconds, and seats are missing.
        """
        asked, idle, first = set[int](), list[str](), dict[RoleId, Mail]()
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while missing := [role for role in roles if role not in self._at]:
            if new := set(await nodes()) - asked:
                asked |= new
                for node, said in (await self._ask({node: self._letter(()) for node in new})).items():
                    role = said.get("role", "")
                    if "idle" in said:
                        idle.append(str(said["idle"]))
                    elif role in self._at:
                        idle.append(f"a second node says party='{role}'")
                    elif role not in missing:
                        idle.append(f"node {node} is passed over: it says party={role!r:.80}")
                    else:
                        self._at[role], first[role] = node, self._read(role, said)
                deadline = clock() + seconds
            elif clock() > deadline:
                raise TransportBroken("; ".join([f"{', '.join(missing)} did not come within {seconds:g} s", *idle]))
            await asyncio.sleep(TICK)
        return first

    async def exchange(self, post: Mapping[RoleId, Mail]) -> dict[RoleId, Mail]:
        """See `Exchange`; notes who has reported."""
        said = await self._ask({self._at[role]: self._letter(mail) for role, mail in post.items()})
        return {role: self._read(role, said[self._at[role]]) for role in post}

    def _letter(self, mail: Mail) -> dict[str, Any]:
        return {**self._about, "mail": pack(mail)}

    def _read(self, role: RoleId, said: Mapping[str, Any]) -> Mail:
        """The mail in an answer of the node that has this seat; notes its report.

        Raises:
            FedsimError: what the seat raised.
            ProtocolError: the answer is about another seat, or none that can be.
        """
        if said.get("role") != role:
            raise ProtocolError(f"the node that plays {role} answers as {said.get('role', 'nobody')!r:.80}")
        if "error" in said:
            raise raised(role, *read_error(said))
        try:
            if "report" in said:
                report = from_bytes(said["report"], self._plan)
                if report.role != role:
                    raise ProtocolError(f"a report of {report.role!r:.80}")
                self.reports[role] = report
            return unpack(said["mail"])
        except (KeyError, TypeError, FedsimError) as error:
            raise ProtocolError(f"the node that plays {role} sent what cannot be read: {error}") from error


def read_error(said: Mapping[str, Any]) -> tuple[str, str]:
    """The class and the text of an error that a node tells of.

    Raises:
        ProtocolError: there is neither.
    """
    found = said.get("error")
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(each, str) for each in found):
        raise ProtocolError("an answer that is neither a report nor an error")
    name, text = found
    return name[:80], text[:MAX_ERROR_CHARACTERS]


def answered(
    asked: Mapping[str, Any],
    node: Mapping[str, Any],
    kept: Mapping[str, Any],
    release: Release = lambda role, file, report: report,
    tell: Tell = lambda role, error: (name_error(error), str(error)),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Play a party over all its mail: what it answers, and what is to be kept until it is asked again.

    Args:
        asked: the run, the scenario file and new mail.
        node: where the seat is played, and what belongs to it; see `fedsim.runtime.flower.follow`.
        kept: what was kept the last time.
        release: makes of the seat's report what the hub gets; by default all of it, for nodes of one operator.
        tell: makes of an error what the hub is told of it; by default all of it.
    """
    plain = json.loads(asked["file"])
    file = validate(plain, plain["name"], {})
    plan = file.plan()
    role, why = whose(plan, node)
    if why:
        return {"idle": why}, {}
    before: Mapping[str, Any] = (
        kept if kept.get("run") == asked["run"] else {"come": pack(()), "sent": 0, "mark": marked(()), "fresh": b""}
    )
    fresh = before["fresh"] or draw_fresh()
    answer: dict[str, Any] = {"role": role}
    way = Replay(come := [*unpack(before["come"]), *unpack(asked["mail"])])
    try:
        own, secrets = find_belongings(node).at(file, role)
        if secrets.own is not None:  # each time the seat plays from its start it must draw what it drew before
            secrets = replace(secrets, fresh=fresh)
        with contextlib.suppress(Waiting):
            whole = asyncio.run(play(own, role, way, secrets=secrets))
            answer["report"] = to_bytes(release(role, file, whole), plan)
        answer["mail"] = pack(way.news(before["sent"], before["mark"]))
    except Exception as error:
        answer["error"] = list(tell(role, error))
    sent = {"sent": len(way.sent), "mark": marked(way.sent)}
    return answer, {"run": asked["run"], "come": pack(come), **sent, "fresh": fresh}


def find_belongings(node: Mapping[str, Any]) -> Belongings:
    """Find what belongs to the seat of a node; in Flower's simulation, where a node has no settings, it simulates."""
    own = Belongings.named(node)
    return replace(own, simulate=True) if not own.secret and is_simulated(node) else own


def whose(plan: Plan, node: Mapping[str, Any]) -> tuple[RoleId, str]:
    """Whose seat a node has, or why none: a SuperLink may have nodes of parties that this scenario does without."""
    parties = [role for role in plan.roster if role != plan.hub]
    if "party" not in node and "partition-id" in node:
        number = int(node["partition-id"])
        return (parties[number], "") if number < len(parties) else ("", f"node {number} of the simulation has no seat")
    party = str(node.get("party", ""))
    return (party, "") if party in parties else ("", f"a node says party='{party:.80}'{suggest(party, parties)}")
