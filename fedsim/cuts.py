"""A consistent cut of a federation: seats agree at the start on the last one that all of them have, and take one now and then.

Training goes in lockstep, so the states of all seats after the same training step fit together, whatever is on its way between
them: each seat keeps its own part alone, and says only which parts it has. Everything before the training is played again.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from fedsim.channel import Placed
from fedsim.config import ScenarioFile
from fedsim.errors import ContentError, ProtocolError
from fedsim.message import Message, RoleId, Scalar
from fedsim.net import Net, Traffic
from fedsim.rows import Rows
from fedsim.seeding import SeatRoot
from fedsim.shelf import Part, Shelf
from fedsim.state import Lasting, Packed, pack, unpack

ROOT = "root"
"""Under which name a part holds what the root of the seat's private draws follows from; the secret is not in it."""


@dataclass(frozen=True, eq=False)
class Kept(Message):
    """Prologue, from each seat to the hub: the marks of the parts that are whole there, by training steps done."""

    marks: Mapping[str, Scalar]


@dataclass(frozen=True, eq=False)
class Agreed(Message):
    """Prologue, back: after how many training steps all go on (0: from the start), and the mark of the parts."""

    done: int
    mark: str


TakeUp = Callable[["Cuts", Lasting], None]


def _explain_misfits(take_up: TakeUp) -> TakeUp:
    """A part may lie in a folder of a stranger: one that is whole, and still none of such a seat, is one line."""

    @functools.wraps(take_up)
    def taken(cuts: Cuts, role: Lasting) -> None:
        try:
            take_up(cuts, role)
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError, RuntimeError) as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ContentError(
                f"a part of a checkpoint does not fit its seat ({why}); remove it and run anew"
            ) from error

    return taken


class FindRoot(Protocol):
    """Derives the root of a seat's private draws (`fedsim.plan.Secrets.root`)."""

    def __call__(self, fresh: bytes | None = None) -> SeatRoot:
        """From the fresh bytes of the run that goes on, or from new ones."""


class Cuts:
    """The parts that a seat takes and is taken up from (`fedsim.net.Cuts`).

    Attributes:
        stages: what lies on this seat's ends of links, taps of attacks included; their states are in a part.
        saw: what is counted there.
        root: of the seat's private draws; a run that is taken up goes on with that of its first attempt.
    """

    def __init__(self, shelf: Shelf, every: int, net: Net, mark: str, part: Part | None, root: SeatRoot) -> None:
        self.every, self.root = every, root
        self.stages: list[Placed[Any]] = []
        self.saw: list[Counter[str]] = []
        self._shelf, self._net, self._mark, self._part = shelf, net, mark, part
        self._rows = shelf.begin(part)
        net.step, net.done = (part.step, part.done) if part else (0, 0)

    @_explain_misfits
    def take_up(self, role: Lasting) -> None:
        """See `fedsim.net.Cuts`."""
        if self._part is None:
            return
        part, self._part = self._part, None
        found = _unpacked(part.state, self._states(role))
        role.restore(found["role"])
        for i, stage in enumerate(self.stages):
            stage.state = found[f"stage {i}"]
        for count, saw in zip(self.saw, found["saw"], strict=True):
            count.clear()
            count.update(saw)
        traffic = Traffic()
        for peer, kind, frames, size in found["traffic"]:
            traffic.frames[peer, kind], traffic.size[peer, kind] = frames, size
        self._net.recount(traffic)
        self._net.rows = Rows(self._rows)

    def take(self, done: int, step: int, role: Lasting) -> None:
        """See `fedsim.net.Cuts`."""
        states = {**self._states(role), ROOT: {"fresh": self.root.fresh, "fingerprint": self.root.fingerprint}}
        self._shelf.put(done, step, self._mark, _packed(states), self._net.rows)

    def close(self) -> None:
        """Write what was taken."""
        self._shelf.close()

    def _states(self, role: Lasting) -> dict[str, Any]:
        sent = self._net.traffic
        return {
            "role": role.state(),
            **{f"stage {i}": stage.state for i, stage in enumerate(self.stages)},
            "saw": tuple(dict(count) for count in self.saw),
            "traffic": tuple((*key, sent.frames[key], size) for key, size in sent.size.items()),
        }


def _packed(states: Mapping[str, Any]) -> Packed:
    """Several states as one, as they are now: the tensors of a role are written to, those of stages never are."""
    texts, tensors = {}, dict[str, Tensor]()
    for name, state in states.items():
        texts[name], found = pack(state)
        tensors |= {f"{name}:{path}": t.to("cpu", copy=name == "role") for path, t in found.items()}
    return json.dumps(texts), tensors


def _unpacked(packed: Packed, like: Mapping[str, Any]) -> dict[str, Any]:
    """Each state by its name; ``like`` has one of each kind."""
    texts = {name: text for name, text in json.loads(packed[0]).items() if name != ROOT}
    if texts.keys() != like.keys():
        raise ProtocolError(f"a part of a checkpoint has {', '.join(texts)}; this seat has {', '.join(like)}")
    found = {}
    for name, text in texts.items():
        own = {path.removeprefix(f"{name}:"): t for path, t in packed[1].items() if path.startswith(f"{name}:")}
        found[name] = unpack((text, own), like[name])
    return found


def _find_root(part: Part, find_root: FindRoot) -> SeatRoot | None:
    """Find the root of the private draws from which a part was taken; None if this seat cannot derive it (any more)."""
    try:
        texts = json.loads(part.state[0])
        if ROOT not in texts:  # taken before roots were kept: only that of a simulation is known to be the same
            return root if (root := find_root()).simulated else None
        kept = unpack((texts[ROOT], {}), {})
        root = find_root(bytes.fromhex(kept["fresh"]))
        return root if root.fingerprint == kept["fingerprint"] else None
    except (ValueError, KeyError, TypeError):
        return None


def _select_usable(parts: Mapping[int, Part], find_root: FindRoot, net: Net) -> dict[int, tuple[Part, SeatRoot]]:
    """Select the parts that this seat can go on from, each with the root of its draws; people are told of the others."""
    roots = {done: _find_root(part, find_root) for done, part in parts.items()}
    if others := [str(done) for done, root in roots.items() if root is None]:
        net.show(
            {
                "notice": f"{net.me}: its checkpoints after training steps {', '.join(others)} were made with another "
                "secret, or as a simulation, and are not used"
            }
        )
    return {done: (parts[done], root) for done, root in roots.items() if root is not None}


async def agree(file: ScenarioFile, roles: Sequence[RoleId], net: Net, find_root: FindRoot) -> Cuts:
    """Settle with the other seats after which training step all go on: the last of which every part is whole.

    ``roles`` are the seats that have parts, this one among them. ``find_root`` derives the root of this seat's private draws
    from the fresh bytes in a part, or, without any, from new ones.

    What is said here counts as no traffic: a run that was taken up reports that of one that was not.

    Raises:
        ProtocolError: the hub names a part that is not here.
        OutputError: the seat's folder cannot be written.
    """
    checkpoint = file.checkpoint
    assert checkpoint is not None
    shelf = Shelf(Path(checkpoint.folder), net.me, f"{file.digest()} {file.scenario.data_digest()}", checkpoint.keep)
    whole = shelf.whole()
    for line in shelf.broken:
        net.show({"notice": f"{net.me}: {line}"})
    parts = _select_usable(whole, find_root, net)
    counted, net.traffic = net.traffic, Traffic()
    mine = Kept(0, {str(done): part.mark for done, (part, _) in parts.items()}, purpose="query")
    if net.me == net.hub:
        others = [role for role in roles if role != net.me]
        agreed = _common([mine, *[await net.recv(role, Kept, 0) for role in others]])
        for role in others:
            await net.send(role, agreed)
        if agreed.done:
            net.show({"notice": f"all go on after training step {agreed.done}"})
    else:
        await net.send(net.hub, mine)
        agreed = await net.recv(net.hub, Agreed, 0)
    net.recount(counted)
    if not agreed.done:
        return Cuts(shelf, checkpoint.every, net, agreed.mark, None, find_root())
    part, root = parts.get(agreed.done, (None, None))
    if part is None or root is None or part.mark != agreed.mark:
        raise ProtocolError(f"{net.hub} goes on after training step {agreed.done}, of which {net.me} has no part")
    return Cuts(shelf, checkpoint.every, net, agreed.mark, part, root)


def _common(kept: Sequence[Kept]) -> Agreed:
    """The last part that all have; without one a new mark."""
    shared = set.intersection(*(set(each.marks.items()) for each in kept))
    whole = [(int(done), str(mark)) for done, mark in shared if done.isdecimal()]
    done, mark = max(whole, default=(0, os.urandom(16).hex()))
    return Agreed(0, done, mark, purpose="query")
