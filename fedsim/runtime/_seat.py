"""One seat in a process of its own: it joins the others over the network, plays, and stays as long as it is needed."""

from __future__ import annotations

from collections.abc import Callable

from fedsim.config import ScenarioFile
from fedsim.errors import ProtocolError, TransportError, WireError
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.play import play
from fedsim.transport.grpc import LOOPBACK, Hub, Pass, Spoke
from fedsim.transport.tls import Identity

PATIENCE = 60.0
"""Seconds that seats wait for each other to connect."""


async def play_hub(
    file: ScenarioFile,
    token: str,
    address: str = LOOPBACK,
    *,
    identity: Identity | None = None,
    watch: Watch = lambda role, row: None,
    listening: Callable[[str], None] = lambda address: None,
    ready: Callable[[], None] = lambda: None,
    patience: float = PATIENCE,
) -> SeatReport:
    """Play the hub of a scenario: listen, wait for the others, and relay until all of them are gone.

    Args:
        file: one arm of a scenario file.
        token: the run's; each other seat must show that of its role.
        address: ``host:port`` to listen at.
        identity: for a stream that is encrypted.
        watch: shown every row that the role logs.
        listening: told the address with the port that was taken.
        ready: called when every seat is connected.
        patience: seconds to wait for the others.

    Raises:
        TransportBroken: the address is taken, a seat did not come, or was lost.
    """
    plan = file.plan()
    hub = await Hub.listen(plan.hub, plan.roster, Pass(token, file.digest()), address, identity)
    try:
        listening(hub.address)
        await hub.joined(patience)
        ready()
        report = await play(file, plan.hub, hub, watch=watch)
        await hub.deserted()
    except BaseException as error:
        await hub.abort(_told(error))
        raise
    await hub.aclose()
    return report


async def play_spoke(
    file: ScenarioFile,
    role: RoleId,
    token: str,
    address: str,
    *,
    identity: Identity | None = None,
    holder: str = "",
    secret: bytes | None = None,
    watch: Watch = lambda role, row: None,
    patience: float = PATIENCE,
) -> SeatReport:
    """Play another seat: join the hub that listens at ``address``, which may come later.

    Args:
        file: one arm of a scenario file.
        role: the seat.
        token: the one of the role.
        address: ``host:port`` of the hub.
        identity: for a stream that is encrypted.
        holder: in whose name token and certificate are, if not the role's.
        secret: the seat's own; None in simulations.
        watch: shown every row that the role logs.
        patience: seconds to wait for the hub.

    Raises:
        ProtocolError: the hub refuses this seat; says why.
        TransportBroken: the hub does not answer within ``patience`` seconds, or a seat was lost.
    """
    plan = file.plan()
    spoke = await Spoke.connect(role, plan.hub, address, Pass(token, file.digest(), holder), patience, identity)
    try:
        report = await play(file, role, spoke, secret=secret, watch=watch)
    except BaseException as error:
        await spoke.abort("" if isinstance(error, TransportError) else _told(error))  # of a seat that is lost all know
        raise
    await spoke.aclose()
    return report


def _told(error: BaseException) -> str:
    """What the other seats may know of an error here: what lies between seats as it is, of all else only the kind."""
    if isinstance(error, (ProtocolError, TransportError, WireError)):
        return str(error)
    return f"it failed with {type(error).__name__}" if isinstance(error, Exception) else "it was interrupted"
