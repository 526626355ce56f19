"""What a role sees: messages by peer, kind and step in any order of arrival; forged and repeated frames are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import torch

from fedsim.channel import Placed, Stage, tap
from fedsim.config import validate
from fedsim.errors import ProtocolError, StallError, WireError
from fedsim.message import Message
from fedsim.models.mlp import Mlp
from fedsim.net import Net
from fedsim.runtime.local import play_all
from fedsim.seeding import Rng
from fedsim.state import digest
from fedsim.testing import record
from fedsim.testing.recording import _bottom, _follow, _serve, _top
from fedsim.transport.base import Transport
from fedsim.transport.memory import MemoryNetwork
from fedsim.transport.wrappers import Drop, Record, Reorder
from fedsim.vfl.messages import Embedding, Gradient
from fedsim.vfl.schedule import Schedule
from fedsim.wire import Envelope, decode, encode

ROSTER = ("server", "north", "south")
Wrap = Callable[[str, Transport], Transport]


def as_it_is(role: str, inner: Transport) -> Transport:
    return inner


def nets(wrap: Wrap = as_it_is) -> dict[str, Net]:
    network = MemoryNetwork(ROSTER)
    return {role: Net(role, "server", ROSTER, wrap(role, network.transport(role))) for role in ROSTER}


def run(play: Callable[[dict[str, Net]], Coroutine[Any, Any, None]], wrap: Wrap = as_it_is) -> None:
    async def main() -> None:
        await asyncio.wait_for(play(nets(wrap)), 120)

    asyncio.run(main())


def embedding(step: int, value: float = 0.0) -> Embedding:
    return Embedding(step, torch.tensor([value]))


def test_messages_are_asked_for_by_peer_kind_and_step_whatever_came_first() -> None:
    async def play(net: dict[str, Net]) -> None:
        await net["south"].send("server", embedding(0, 2.0))
        await net["north"].send("server", Gradient(0, torch.tensor([5.0])))
        await net["north"].send("server", embedding(1, 1.0))
        await net["north"].send("server", embedding(0, 0.0))
        gathered = await net["server"].gather(Embedding, 0)
        assert {peer: message.z.item() for peer, message in gathered.items()} == {"north": 0.0, "south": 2.0}
        assert list(gathered) == ["north", "south"]
        assert (await net["server"].recv("north", Gradient, 0)).g.item() == 5.0
        assert (await net["server"].recv("north", Embedding, 1)).z.item() == 1.0

    run(play)


def test_broadcast_reaches_everyone_else() -> None:
    async def play(net: dict[str, Net]) -> None:
        await net["server"].broadcast(embedding(3))
        for role in ("north", "south"):
            assert (await net[role].recv("server", Embedding, 3)).step == 3
        assert net["server"].peers == ("north", "south")

    run(play)


def test_traffic_counts_frames_and_bytes() -> None:
    async def play(net: dict[str, Net]) -> None:
        for step in range(2):
            await net["north"].send("server", embedding(step))
        traffic = net["north"].traffic
        size = len(encode(Envelope("north", "server", 0, embedding(0))))
        assert traffic.frames == {("server", "Embedding"): 2}
        assert traffic.size == {("server", "Embedding"): 2 * size}

    run(play)


def test_stages_lie_in_order_on_their_own_end_and_direction() -> None:
    def add(value: float) -> Placed[Any]:
        def apply(message: Message, state: int) -> tuple[Message, int]:
            assert isinstance(message, Embedding)
            return Embedding(message.step, message.z * 10 + value), state + 1

        return Placed(Stage(lambda rng: 0, apply), Rng.root(0))

    async def play(net: dict[str, Net]) -> None:
        net["north"].outgoing["server"] += [add(1), add(2)]
        net["server"].incoming["north"].append(add(3))
        await net["north"].send("server", embedding(0))
        await net["server"].send("north", embedding(0))
        await net["south"].send("server", embedding(0))
        assert (await net["server"].recv("north", Embedding, 0)).z.item() == 123.0
        assert (await net["north"].recv("server", Embedding, 0)).z.item() == 0.0
        assert (await net["server"].recv("south", Embedding, 0)).z.item() == 0.0
        assert [placed.state for placed in net["north"].outgoing["server"]] == [1, 1]

    run(play)


def test_incoming_stages_see_messages_in_the_order_asked_for() -> None:
    async def play(net: dict[str, Net]) -> None:
        listener = Placed(tap(lambda rng: (), lambda message, seen: (*seen, message.step)), Rng.root(0))
        net["server"].incoming["north"].append(listener)
        for step in (2, 0, 1):
            await net["north"].send("server", embedding(step))
        for step in range(3):
            await net["server"].recv("north", Embedding, step)
        assert listener.state == (0, 1, 2)

    run(play)


Forge = Callable[[], Envelope]
FORGED: dict[str, tuple[Forge, str]] = {
    "in another's name": (lambda: Envelope("south", "server", 0, embedding(0)), "north sent a frame from 'south'"),
    "for somebody else": (lambda: Envelope("north", "south", 0, embedding(0)), "to 'south' to server"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_frame_is_refused(name: str) -> None:
    forge, complaint = FORGED[name]

    async def play(net: dict[str, Net]) -> None:
        await net["north"]._transport.send("server", encode(forge()))
        with pytest.raises(ProtocolError, match=complaint):
            await net["server"].recv("north", Embedding, 0)

    run(play)


def test_a_replayed_frame_is_refused() -> None:
    async def play(net: dict[str, Net]) -> None:
        frame = encode(Envelope("north", "server", 0, embedding(0)))
        for _ in range(2):
            await net["north"]._transport.send("server", frame)
        await net["server"].recv("north", Embedding, 0)
        with pytest.raises(ProtocolError, match="north sent frame 0 again"):
            await net["server"].recv("north", Embedding, 1)

    run(play)


def test_a_seat_outside_the_roster_is_refused() -> None:
    async def main() -> None:
        network = MemoryNetwork([*ROSTER, "stranger"])
        server = Net("server", "server", ROSTER, network.transport("server"))
        frame = encode(Envelope("stranger", "server", 0, embedding(0)))
        await network.transport("stranger").send("server", frame)
        with pytest.raises(ProtocolError, match="stranger is not in the roster server, north, south"):
            await server.recv("north", Embedding, 0)

    asyncio.run(main())


def test_bytes_that_are_no_frame_are_refused() -> None:
    async def play(net: dict[str, Net]) -> None:
        await net["north"]._transport.send("server", b"hello")
        with pytest.raises(WireError, match="shorter than a frame's start"):
            await net["server"].recv("north", Embedding, 0)

    run(play)


def test_a_stall_names_who_waits_for_what_from_whom() -> None:
    async def play(net: dict[str, Net]) -> None:
        waits = [
            net["server"].recv("north", Embedding, 4),
            net["north"].recv("server", Gradient, 4),
            net["south"].recv("server", Gradient, 3),
        ]
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert [str(error) for error in found] == [
            "server waits for Embedding of step 4 from north",
            "north waits for Gradient of step 4 from server",
            "south waits for Gradient of step 3 from server",
        ]

    run(play)


def test_rows_and_progress_are_shown_and_only_rows_are_kept() -> None:
    shown: list[tuple[str, dict[str, Any]]] = []
    network = MemoryNetwork(["a"])
    net = Net("a", "a", ["a"], network.transport("a"), watch=lambda role, row: shown.append((role, dict(row))))
    net.log(step=1, loss=0.5)
    net.show({"done": 0.5})
    assert list(net.rows) == [{"step": 1, "loss": 0.5}]
    assert shown == [("a", {"step": 1, "loss": 0.5}), ("a", {"done": 0.5})]


def federation(wrap: Wrap, exchange: Any = "shared") -> str:
    """Train two parties; the digest of all weights."""
    rng = Rng.root(9)
    schedule = Schedule(rng.child("schedule"), 12, 4, 4, 6, every=3)
    bottoms = {party: _bottom(Mlp(hidden=(6,)), (3,), 12, rng.child(party)) for party in ROSTER[1:]}
    top = _top((torch.arange(12) % 2), rng.child("top"))

    async def play(net: dict[str, Net]) -> None:
        followers = (_follow(exchange, schedule, bottom, net[party]) for party, bottom in bottoms.items())
        tasks: list[Awaitable[None]] = [_serve(exchange, schedule, top, net["server"]), *followers]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException):
                raise error

    run(play, wrap)
    weights = {f"{party}/{name}": p for party, b in bottoms.items() for name, p in b.network.parameters.items()}
    return digest(weights | top.network.parameters)


def reordered(root: Rng, role: str, inner: Transport) -> Transport:
    return Reorder(inner, root.child(role))


@pytest.mark.parametrize("exchange", ["split", "shared"])
def test_reordered_delivery_changes_nothing(exchange: str) -> None:
    straight = federation(as_it_is, exchange)
    for root in map(Rng.root, range(3)):
        assert federation(partial(reordered, root), exchange) == straight


def test_a_lost_frame_ends_in_a_stall_that_names_it() -> None:
    def loses(role: str, inner: Transport) -> Transport:
        def lose(dst: str, frame: bytes) -> bool:
            message = decode(frame).message
            return role == "north" and message.kind() == "ParameterGradient" and message.step == 1

        return Drop(inner, lose)

    with pytest.raises(StallError, match="server waits for ParameterGradient of step 1 from north"):
        federation(loses)


def test_a_message_is_not_written_to_after_it_has_passed_a_tap() -> None:
    """The hub's optimiser must not update the very tensors that a tap at the hub has seen."""
    recording = record("shared", Mlp(hidden=(6,)), (3,))
    first = next(m for m in recording.messages if m.kind() == "Model")
    disclosed = recording.facts["bottom"].tensors
    assert digest(first.parameters) == digest(disclosed)  # type: ignore[attr-defined]


def test_recorded_frames_are_the_traffic() -> None:
    recorders: dict[str, Record] = {}

    def wrap(role: str, inner: Transport) -> Transport:
        recorders[role] = Record(inner)
        return recorders[role]

    async def play(net: dict[str, Net]) -> None:
        await net["north"].send("server", embedding(0))
        await net["server"].recv("north", Embedding, 0)
        assert sum(len(frame) for _, frame in recorders["north"].sent) == sum(net["north"].traffic.size.values())
        assert recorders["server"].received == [("north", recorders["north"].sent[0][1])]

    run(play, wrap)


def test_a_run_that_stalls_says_who_waits() -> None:
    """A whole scenario over a transport that loses the greeting."""
    scenario = {
        "kind": "baseline",
        "data": {"kind": "sklearn", "name": "iris"},
        "parties": {"a": {"columns": "0:2"}, "b": {"columns": "2:4"}},
        "steps": 2,
    }
    file = validate({"scenario": scenario}, "file", {})

    async def main() -> None:
        network = MemoryNetwork(("server", "a", "b"))
        transports: dict[str, Transport] = {role: network.transport(role) for role in ("server", "a", "b")}
        transports["a"] = Drop(transports["a"], lambda dst, frame: True)
        await asyncio.wait_for(play_all(file, transports), 120)

    with pytest.raises(StallError, match="the run stalled: server waits for Hello of step 0 from a"):
        asyncio.run(main())
