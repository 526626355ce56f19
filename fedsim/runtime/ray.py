"""Every seat in a Ray actor: Ray places, starts, watches and frees them; frames travel on fedsim's own streams.

Ray pickles what crosses it, so that is bytes and texts only; and it belongs to one operator's trust domain.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import json
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import Field

from fedsim.config import Runtime, ScenarioFile, validate
from fedsim.distribution import format_install_command
from fedsim.errors import ConfigError, FedsimError, TransportBroken
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport, from_bytes, to_bytes
from fedsim.plan import Plan
from fedsim.residency import log_failure, name_error, read_consent, release_error
from fedsim.runtime._causes import summarise_error
from fedsim.runtime._crew import GRACE, Crew, environment, raised, tokens
from fedsim.runtime._environment import (
    changed_environment,
    describe_full_disk,
    describe_ignored,
    exempt_loopback,
    foreign_variables,
)
from fedsim.runtime._leftovers import make_owned_folder
from fedsim.runtime._own_folder import own_folder
from fedsim.runtime._ray_log import SeatLog
from fedsim.runtime._seat import play_hub, play_spoke
from fedsim.runtime._sharing import (
    SHARING_VARIABLE,
    OwnSharing,
    identify_operator,
    read_own_settings,
    redirect_output,
    write_log,
)
from fedsim.transport.addresses import LOOPBACK_HOSTS, probe_loopback
from fedsim.transport.grpc import LOOPBACK

START = 120.0
"""Seconds in which Ray must have started an actor for which there is room."""
FREED = 10.0
"""Seconds that Ray may take to free what killed actors had."""
KNOCK = 5.0
"""Seconds in which a Ray that is to be joined must answer."""
TICK = 0.2
"""Seconds between two looks at what the seats log."""
STORE = 100 << 20
"""Bytes of the object store of a Ray started here: next to nothing lies in it."""
CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""With 0, all processes of a Ray started here listen on loopback only. Ray reads it when it is imported."""
SETTINGS = {
    "RAY_grpc_enable_http_proxy": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # seats are the work; Ray would let everything else on the machine go first
}
"""What Ray reads from the environment when it is imported or started."""
NAMES = {"cpus": "CPU", "gpus": "GPU"}
"""What placement calls by another name than Ray; anything else is a resource of the cluster by its own name."""
REPORT, ERROR = b"O", b"E"
ADDRESS, CLIENT_MODE = "RAY_ADDRESS", "RAY_CLIENT_MODE"
DASHBOARDS = ("http://", "https://")
SOCKET_BYTES = len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.1")
"""The length of the longest path of a socket below the temporary folder of a Ray."""
SHARED_MEMORY = "/dev/shm"
SPARE = 10 << 20
"""Bytes that must be free in shared memory beside the object store."""
ELSEWHERE = f"they are on other machines, or have operators of their own; what they share {SHARING_VARIABLE} says there"
_NOTICES: list[str] = []
"""Lines about the Ray in use that nobody has been shown yet."""


class Ray(Runtime):
    """All seats as Ray actors, on a Ray that is started here or on a cluster that is there."""

    address: str = Field(
        "", description="a Ray to join: auto (or, by --set only, host:port or ray://host:port); default: start one here"
    )
    gpus: float | None = Field(None, ge=0, description="GPUs of a Ray started here; default: those that it finds")

    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """See `Runtime.run`."""
        with self.held(file):
            return _run(file, watch)

    def check(self, file: ScenarioFile) -> None:
        """See `Runtime.check`: of a Ray that is joined other machines may have other devices."""
        if not resolve_address(self.address)[0]:
            super().check(file)
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(f"runtime 'ray': Ray is not installed; {format_install_command('ray')}")

    def held(self, file: ScenarioFile) -> contextlib.AbstractContextManager[object]:
        """See `Runtime.held`: one Ray for all arms and seeds."""
        return session(self, max(len(arm.plan().seats) for arm in file.arms().values()))


@contextlib.contextmanager
def session(config: Ray, seats: int, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """A Ray to work with, started or joined; one that this process is connected to already is used and left as it is.

    A Ray started here listens on loopback only, nothing that the environment says of other Rays reaches it, and nothing of it
    is left in the end.

    Args:
        config: which Ray, and whether it may print.
        seats: how many CPUs it must offer at least, if it is started here.
        settings: environment variables for it.

    Raises:
        ConfigError: Ray is not installed, does not start, or there is none at the address.
    """
    with contextlib.ExitStack() as stack:
        if not config.verbose:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # where Ray prints what becomes of workers
        address, notice = resolve_address(config.address)
        if not (sys.modules.get("ray") and sys.modules["ray"].is_initialized()):
            stack.enter_context(_prepared(bool(address), settings))
        ray = _imported(bool(address))
        if not ray.is_initialized():
            _NOTICES.append(notice)
            _begin(ray, config, address, seats, stack)
        yield


def resolve_address(address: str) -> tuple[str, str]:
    """Which Ray to join, empty for one of our own, and one line for people about ``RAY_ADDRESS`` if it matters.

    Args:
        address: as the file says.

    Raises:
        ConfigError: it is the address of a dashboard.
    """
    if address in ("", "local"):
        told = describe_ignored(_foreign(()), "Ray", "; to join another: runtime.address")
        return "", told
    there = os.environ.get(ADDRESS, "")
    if address == "auto" and there.startswith(DASHBOARDS):
        return address, f"ignored: {ADDRESS}={there:.60}, a dashboard for jobs; joins a Ray of this machine"
    if address == "auto" and there not in ("", "auto", "local"):
        return there, f"joins the Ray at {there:.60}, as {ADDRESS} says"
    if address.startswith(DASHBOARDS):
        raise ConfigError(
            f"runtime.address: '{address:.60}' is a dashboard for jobs; expected auto, host:port (as a rule 6379) or "
            "ray://host:port (as a rule 10001)"
        )
    return address, ""


def _foreign(own: Collection[str]) -> list[str]:
    """The variables of the user that lead Ray elsewhere; Ray sets one of them itself when it is imported."""
    imported = {CLIENT_MODE} if os.environ.get(CLIENT_MODE) == "0" else set()
    return foreign_variables("RAY_", {*SETTINGS, CLUSTER, *imported, *own})


def _prepared(joins: bool, settings: Mapping[str, str]) -> contextlib.AbstractContextManager[None]:
    """The environment in which Ray is imported and started."""
    changes = {**SETTINGS, **settings}
    spared = exempt_loopback(os.environ)
    changes |= {name: value for name, value in spared.items() if os.environ.get(name) != value}
    without = [name for name in os.environ if name not in spared]
    without += [ADDRESS] if joins else _foreign(settings)
    return changed_environment(changes, without)


def _imported(joins: bool) -> Any:
    """The module, told beforehand what it reads from the environment when it is imported."""
    if not joins and sys.modules.get("ray") and os.environ.get(CLUSTER) != "0":
        raise ConfigError(f"runtime 'ray': Ray was imported before, and would listen on every address; set {CLUSTER}=0")
    if not joins:
        os.environ[CLUSTER] = "0"
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"runtime 'ray': Ray is not installed; {format_install_command('ray')}") from error
    return ray


def _begin(ray: Any, config: Ray, address: str, seats: int, stack: contextlib.ExitStack) -> None:
    """Start a Ray or join one, until the end of the stack."""
    before = signal.getsignal(signal.SIGTERM)  # Ray puts its own in place
    settings: dict[str, Any] = {"log_to_driver": config.verbose}
    if not config.verbose:
        settings["logging_level"] = logging.CRITICAL
    try:
        if address:
            _knock(address)
            stack.callback(ray.shutdown)
            ray.init(address=address, **settings)
        else:
            _start(ray, config, seats, settings, stack)
    except FedsimError:
        raise
    except Exception as error:  # it raises whatever its parts do, assertions as well
        where = f"no Ray at '{address}'" if address else "Ray does not start"
        raise ConfigError(f"runtime.address: {where}: {summarise_error(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _start(ray: Any, config: Ray, seats: int, settings: Mapping[str, Any], stack: contextlib.ExitStack) -> None:
    if reason := probe_loopback(LOOPBACK_HOSTS[0]):
        remedy = "ip addr add 127.0.0.1/8 dev lo; the other runtimes do with ::1"
        raise ConfigError(f"runtime 'ray': Ray needs {LOOPBACK_HOSTS[0]} ({reason}): {remedy}")
    folder = make_owned_folder("fedsim-ray-", SOCKET_BYTES)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.callback(ray.shutdown)  # before its folder goes
    try:
        ray.init(
            address="local",  # without it, a Ray that somebody else has started on this machine would be joined
            num_cpus=max(seats, os.cpu_count() or 1),
            num_gpus=config.gpus,
            include_dashboard=False,
            object_store_memory=STORE,
            _temp_dir=str(folder),
            _plasma_directory=None if has_shared_memory() else str(folder),
            **settings,
        )
    except Exception as error:
        if full := describe_full_disk(folder):
            raise ConfigError(f"runtime 'ray': Ray does not start: {full}") from error
        raise


def has_shared_memory() -> bool:
    """Whether the object store fits into /dev/shm; containers may have none, or a small one."""
    try:
        return os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > STORE + SPARE
    except OSError:
        return False


def _knock(address: str) -> None:
    """Raise ConnectionError at once if nobody listens at ``host:port`` or ``ray://host:port``: Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), KNOCK).close()
        except OSError as error:
            raise ConnectionError(f"nobody listens there: {error.strerror or error}") from error


class _Actor:
    """One seat, in the process that Ray has started for it. No method is async: each has a thread of its own."""

    def __init__(self, orders: str) -> None:
        self._orders = json.loads(orders)
        self._rows: deque[Mapping[str, Any]] = deque()
        self._address = ""
        self._listens = threading.Event()

    def ready(self) -> str:
        """Where this seat will compute: a device, and the address of the machine."""
        import ray
        import torch

        device = "cuda" if self._orders["asked"].get("gpus") and torch.cuda.is_available() else "cpu"
        return json.dumps([device, ray.util.get_node_ip_address()])  # type: ignore[no-untyped-call]

    def listening(self, seconds: float) -> str:
        """The hub's address, once there is one; empty if it did not come to that."""
        self._listens.wait(seconds)
        return self._address

    def rows(self) -> str:
        """What the role has logged since the last time."""
        return json.dumps([self._rows.popleft() for _ in range(len(self._rows))])

    def play(self, address: str) -> bytes:
        """Play to the end: what was reported, or raised."""
        role: RoleId = self._orders["role"]
        own = self._is_own()
        try:
            if own:
                redirect_output(read_own_settings(), role)
            return REPORT + asyncio.run(_play(self._orders, address, self._watch, self._listen, own))
        except Exception as error:
            if own:
                log_failure(role, error)
            told = release_error(role, error) if own else (name_error(error), str(error))
            return ERROR + json.dumps(told).encode()
        finally:
            self._listens.set()

    def _is_own(self) -> bool:
        """Whether this seat has an operator of its own: it is on another machine than the run's, or its settings say so."""
        if self._orders["hub"]:
            return False
        return SHARING_VARIABLE in os.environ or self._orders["operator"] != identify_operator()

    def _watch(self, role: RoleId, row: Mapping[str, Any]) -> None:
        self._rows.append(row)

    def _listen(self, address: str) -> None:
        self._address = address
        self._listens.set()


async def _play(
    orders: Mapping[str, Any], address: str, watch: Watch, listening: Callable[[str], None], own: bool
) -> bytes:
    file, role, token = validate(orders["file"], orders["file"]["name"], {}), orders["role"], orders["token"]
    os.environ.update(environment(orders["asked"]))
    plan = file.plan()
    if role == plan.hub:
        report = await play_hub(file, token, address, watch=watch, listening=listening)
    elif own:
        consent = read_consent(read_own_settings())
        with own_folder(consent.runs, file, role, write_log) as folder:
            share = OwnSharing(folder, file, consent, watch)
            report = share.release(await play_spoke(file, role, token, address, watch=share.watch))
    else:
        report = await play_spoke(file, role, token, address, watch=watch)
    return to_bytes(report, plan)


def _run(file: ScenarioFile, watch: Watch) -> list[SeatReport]:
    import ray

    plan, crew = file.plan(), Crew(file, watch)
    while _NOTICES:
        crew.notice(_NOTICES.pop(0))
    before: Mapping[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    asked = _asked(file, plan, ray, crew)
    shown = tokens(plan)
    actors: dict[RoleId, Any] = {}
    try:
        for role in plan.roster:
            orders: dict[str, Any] = {
                "role": role,
                "token": shown[role],
                "asked": asked[role],
                "operator": identify_operator(),
            }
            orders |= {"file": file.resolved(), "hub": role == plan.hub}
            options = _options(asked[role])
            actors[role] = ray.remote(_Actor).options(**options, max_concurrency=3).remote(json.dumps(orders))
        played = _started(actors, plan, asked, crew, ray)
        if kept := [role for role, report in played.items() if report.withheld]:
            crew.notice(f"{', '.join(kept)} kept rows and models in run folders of their own: {ELSEWHERE}")
        return [played[role] for role in plan.roster]
    finally:
        for actor in actors.values():
            ray.kill(actor)
        _await_free(before, {_ray_name(name) for each in asked.values() for name in each}, ray)


def _asked(file: ScenarioFile, plan: Plan, ray: Any, crew: Crew) -> dict[RoleId, dict[str, float]]:
    """What each seat asks for: a CPU, unless its placement says otherwise.

    Raises:
        ConfigError: it is more than there is; with the sum.
    """
    asked = {role: {"cpus": 1.0, **file.placement.get(role, {})} for role in plan.roster}
    if not ray.cluster_resources().get("GPU"):
        wishing = [role for role, each in asked.items() if each.pop("gpus", 0)]
        if wishing:
            crew.notice(f"no GPU here: {', '.join(wishing)} will train on the CPU")
    free, nodes = ray.available_resources(), [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name in dict.fromkeys(name for each in asked.values() for name in each):
        parts = {role: each[name] for role, each in asked.items() if each.get(name)}
        there, most = free.get(_ray_name(name), 0), max(node.get(_ray_name(name), 0) for node in nodes)
        if sum(parts.values()) > there + 1e-9:
            terms = " + ".join(f"{role} {amount:g}" for role, amount in parts.items())
            found = f"{terms} = {sum(parts.values()):g} asked for, {there:g} free"
            raise ConfigError(f"placement: too few {name} on this Ray: {found}")
        for role, amount in parts.items():
            if amount > most:
                raise ConfigError(
                    f"placement.{role}.{name}: {amount:g} asked for, no machine of this Ray has over {most:g}"
                )
    return asked


def _await_free(before: Mapping[str, float], names: Collection[str], ray: Any) -> None:
    """Wait until Ray has back what the seats had, or somebody else has taken it: the next arm is to find it free."""
    deadline = time.monotonic() + FREED
    while time.monotonic() < deadline:
        now = ray.available_resources()
        if all(now.get(name, 0) >= before.get(name, 0) for name in names):
            return
        time.sleep(TICK)


def _ray_name(name: str) -> str:
    return NAMES.get(name, name)


def _options(asked: Mapping[str, float]) -> dict[str, Any]:
    others = {name: amount for name, amount in asked.items() if name not in NAMES}
    return {"num_cpus": asked["cpus"], "num_gpus": asked.get("gpus", 0), "resources": others or None}


def _started(
    actors: Mapping[RoleId, Any], plan: Plan, asked: Mapping[RoleId, Mapping[str, float]], crew: Crew, ray: Any
) -> dict[RoleId, SeatReport]:
    """Wait until all actors run, let the hub listen and the others join it; what they report."""
    places = _wait_for(actors, crew, ray)
    wishing = [role for role, (device, _) in places.items() if asked[role].get("gpus") and device == "cpu"]
    if wishing:
        crew.notice(f"torch finds no GPU: {', '.join(wishing)} will train on the CPU")
    alone = len({host for _, host in places.values()}) == 1
    listen = LOOPBACK if alone else f"{places[plan.hub][1]}:0"
    playing = {actors[plan.hub].play.remote(listen): plan.hub}
    try:
        address = ray.get(actors[plan.hub].listening.remote(START), timeout=2 * START)
    except ray.exceptions.RayError as error:
        raise crew.died(plan.hub, f"does not listen: {summarise_error(error)}") from error
    if address:
        playing |= {actor.play.remote(address): role for role, actor in actors.items() if role != plan.hub}
    return _follow(actors, playing, plan, crew, ray)


def _wait_for(actors: Mapping[RoleId, Any], crew: Crew, ray: Any) -> dict[RoleId, tuple[str, str]]:
    refs = {actor.ready.remote(): role for role, actor in actors.items()}
    _, late = ray.wait(list(refs), num_returns=len(refs), timeout=START)
    if late:
        names = ", ".join(refs[ref] for ref in late)
        raise TransportBroken(f"Ray has started no actor for {names} within {START:g} s; are its resources taken?")
    places = {}
    for ref, role in refs.items():
        try:
            device, host = json.loads(ray.get(ref, timeout=START))
        except ray.exceptions.RayError as error:
            raise crew.died(role, f"does not start: {summarise_error(error)}") from error
        places[role] = (device, host)
    return places


def _follow(
    actors: Mapping[RoleId, Any], playing: Mapping[Any, RoleId], plan: Plan, crew: Crew, ray: Any
) -> dict[RoleId, SeatReport]:
    """Show what the seats log until all have reported; if one fails, wait for what the others know of it."""
    pending, reports, failures = dict(playing), dict[RoleId, SeatReport](), list[FedsimError]()
    deadline, log = float("inf"), SeatLog(actors, crew, ray)
    while pending and time.monotonic() < deadline:
        done, _ = ray.wait(list(pending), num_returns=1, timeout=TICK)
        log.show(TICK)
        for ref in done:
            role = pending.pop(ref)
            log.finish(role)
            try:
                reports[role] = _report(role, ray.get(ref, timeout=START), plan)
            except ray.exceptions.RayError:
                failures.append(crew.died(role, "was killed or crashed"))
            except FedsimError as error:
                failures.append(error)
        if failures:
            deadline = min(deadline, time.monotonic() + GRACE)
    if failures:
        raise crew.cause(failures)
    return reports


def _report(role: RoleId, block: bytes, plan: Plan) -> SeatReport:
    kind, content = block[:1], block[1:]
    if kind == ERROR:
        raise raised(role, *json.loads(content))
    return from_bytes(content, plan)
