"""One seat in a process of its own: it joins the others over the network, plays, and stays as long as it is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fedsim.config import ScenarioFile, read
from fedsim.errors import ConfigError, TransportError
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.plan import Secrets
from fedsim.play import play
from fedsim.residency import SeatSettingsError, describe_failure
from fedsim.supervision import keeping
from fedsim.transport.grpc import LOOPBACK, Hub, Pass, Spoke
from fedsim.transport.tls import Identity

PATIENCE = 60.0
"""Seconds that seats wait for each other to connect."""
MAX_SECRET_BYTES = 1 << 16
"""Bytes of a secret, or of a key of ids."""
REMINDS = 60.0
"""Seconds for which a seat may wait for one message before people are told so."""
PROCESS = os.urandom(16).hex()
"""The name by which a hub knows a seat's process again, if it loses its connection and joins anew."""


@dataclass(frozen=True)
class Belongings:
    """Where a seat's own things lie; each may be empty.

    Attributes:
        data: its data file, or a folder in which to look for those that the scenario names (``FEDSIM_DATA``).
        secret: the file with the seat's own secret, from which, with fresh bytes of each run, its noise and its initial
            weights follow.
        ids_key: the file with the key that ids are hashed with; the same at every seat.
        agrees: the scenario file that the seat agrees to play, where the hub brings one: any other is refused.
        checkpoints: the folder in which it keeps its parts of checkpoints, where the hub brings the file.
        simulate: whether it is to play without a secret of its own, as in a simulation: its noise and its initial weights
            then follow from the public seed.
    """

    data: str = ""
    secret: str = ""
    ids_key: str = ""
    agrees: str = ""
    checkpoints: str = ""
    simulate: bool = False

    @staticmethod
    def named(settings: Mapping[str, Any]) -> Belongings:
        """Those among other settings."""
        own = {each.name: str(settings.get(each.name, "")) for each in fields(Belongings) if each.type == "str"}
        return Belongings(**own, simulate=_is_set(settings, "simulate"))

    def at(self, file: ScenarioFile, role: RoleId) -> tuple[ScenarioFile, Secrets]:
        """The file as this seat plays it, the same experiment, and its secrets.

        Raises:
            InputError: a file cannot be read or is empty, the scenario reads no data that could lie there, the seat has
                agreed to another, or it has no secret and is not to simulate.
        """
        self._check_secret(role)
        if self.agrees:
            agreed = [arm.digest() for arm in read(self.agrees).arms().values()]
            if file.digest() not in agreed:
                mine = ", ".join(digest[:8] for digest in agreed)
                raise SeatSettingsError(
                    f"{role} agrees to play {mine} and no other scenario; it is asked for {file.digest()[:8]}"
                )
        if self.data:
            file = file.without_folder()
        if self.data and Path(self.data).is_dir():
            os.environ["FEDSIM_DATA"] = self.data
        elif self.data:
            file = file.model_copy(update={"scenario": file.scenario.at(role, self.data)})
        return file, Secrets(_content(self.secret, "secret"), _content(self.ids_key, "key of ids"))

    def _check_secret(self, role: RoleId) -> None:
        if self.secret and self.simulate:
            raise SeatSettingsError(f"{role} has a secret and is to simulate; expected one of them: secret, simulate")
        if not self.secret and not self.simulate:
            raise SeatSettingsError(
                f"{role} has no secret of its own, so that everybody who has the scenario file could subtract its noise; "
                "expected a file that only this seat has (fedsim keys makes one): --secret FILE, or secret='FILE' in the "
                "settings of a node or of the app; --simulate, or simulate=true, to play without"
            )

    def keeping(self, file: ScenarioFile, role: RoleId) -> ScenarioFile:
        """The file with this seat's own folder for parts of checkpoints: that of the hub lies on another machine.

        Raises:
            ConfigError: the scenario takes checkpoints, and this seat has no folder for them.
        """
        if file.checkpoint is None:
            return file
        if not self.checkpoints:
            raise SeatSettingsError(
                f"{role} has no folder for checkpoints, which the scenario takes; name one: checkpoints='DIR'"
            )
        return keeping(file, Path(self.checkpoints) / file.digest()[:8])


async def play_hub(
    file: ScenarioFile,
    token: str,
    address: str = LOOPBACK,
    *,
    identity: Identity | None = None,
    secrets: Secrets = Secrets(),  # noqa: B008 (frozen)
    watch: Watch = lambda role, row: None,
    listening: Callable[[str], None] = lambda address: None,
    ready: Callable[[], None] = lambda: None,
    admitted: Callable[[RoleId, str], None] = lambda role, holder: None,
    patience: float = PATIENCE,
) -> SeatReport:
    """Play the hub of a scenario: listen, wait for the others, and relay until all of them are gone.

    Args:
        file: one arm of a scenario file.
        token: the run's; each other seat must show that of its role.
        address: ``host:port`` to listen at.
        identity: for a stream that is encrypted.
        secrets: the hub's own; none in simulations.
        watch: shown every row that the role logs.
        listening: told the address with the port that was taken.
        ready: called when every seat is connected.
        admitted: told each seat that joins, and in whose name its token and certificate are.
        patience: seconds to wait for the others.

    Raises:
        TransportBroken: the address is taken, a seat did not come, or was lost.
    """
    plan = file.plan()
    admits = Pass(token, file.digest())
    hub = await Hub.listen(
        plan.hub, plan.roster, admits, address, identity, lambda line: watch(plan.hub, {"notice": line}), admitted
    )
    try:
        listening(hub.address)
        await hub.joined(patience)
        ready()
        report = await play(file, plan.hub, hub, secrets=secrets, watch=watch, reminds=REMINDS)
        await hub.deserted()
    except BaseException as error:
        await hub.abort(describe_failure(error))
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
    secrets: Secrets = Secrets(),  # noqa: B008 (frozen)
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
        secrets: the seat's own; none in simulations.
        watch: shown every row that the role logs.
        patience: seconds to wait for the hub.

    Raises:
        ProtocolError: the hub refuses this seat; says why.
        TransportBroken: the hub does not answer within ``patience`` seconds, or a seat was lost.
    """
    plan = file.plan()
    spoke = await Spoke.connect(
        role, plan.hub, address, Pass(token, file.digest(), holder, PROCESS), patience, identity
    )
    try:
        report = await play(file, role, spoke, secrets=secrets, watch=watch, reminds=REMINDS)
    except BaseException as error:
        lost = isinstance(error, TransportError)  # of a seat that is lost all know
        await spoke.abort("" if lost else describe_failure(error))
        raise
    await spoke.aclose()
    return report


def describe_simulated(role: RoleId) -> str:
    """Describe in one line what it means that a seat of a network plays without a secret."""
    return (
        f"{role} SIMULATES: without a secret of its own its noise and its initial weights follow from the public seed, and "
        "everybody who has the scenario file can subtract its noise"
    )


def _is_set(settings: Mapping[str, Any], name: str) -> bool:
    """Read a switch among settings that people write by hand."""
    value = settings.get(name, False)
    if value in (True, False, "true", "false", ""):
        return value in (True, "true")
    raise ConfigError(f"{name}: expected true or false, found '{value!s:.80}'")


def _content(path: str, what: str) -> bytes | None:
    if not path:
        return None
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{what}: {path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_SECRET_BYTES:
        raise ConfigError(f"{what}: {path} has more than {MAX_SECRET_BYTES} bytes; fedsim keys makes one")
    if not (content := content.strip()):
        raise ConfigError(f"{what}: {path} is empty")
    return content
