"""A scenario file played to the end, every arm and every seed, or one seat of it, with a run folder to show for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedsim import config
from fedsim.calling import accept_any_source
from fedsim.config import ScenarioFile, validate
from fedsim.errors import ConfigError, DivergedError, InputError, suggest
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.plan import Secrets
from fedsim.play import ids_key
from fedsim.report import manifest, page, reading, schema, seat_page
from fedsim.report.folder import RunFolder, complete, default_path, discard_attempts
from fedsim.report.inspection import inspect_folder
from fedsim.report.record import slugs
from fedsim.report.replacing import CHECKPOINTS, find_unfinished, public_folder
from fedsim.report.summary import Arm
from fedsim.role import Role
from fedsim.runtime._seat import PATIENCE, describe_simulated, play_hub, play_spoke
from fedsim.runtime.local import meet_all
from fedsim.seeding import Rng, determine, simulated_secret
from fedsim.supervision import keeping, store, stored, supervised
from fedsim.transport.addresses import explain_listen, is_loopback, split_address
from fedsim.transport.tls import Identity
from fedsim.vfl.device import find_device

Started = Callable[[str, ScenarioFile], Watch]
"""Called before each arm with a title and its file; returns who watches it."""


def _unwatched(title: str, file: ScenarioFile) -> Watch:
    return lambda role, row: None


@accept_any_source
def run(
    file: ScenarioFile,
    out: Path | None = None,
    *,
    command: Sequence[str] = (),
    started: Started = _unwatched,
    pages: bool = True,
    replace: bool = False,
) -> Path:
    """Play every arm and write the run folder; returns where it lies.

    Args:
        file: as `fedsim.config.read` gives it; also a path, the name of a file that ships with fedsim, or plain values.
        out: the run folder; default ``runs/<name>-<digest8>``. A run of the same experiment is replaced when the new one is
            complete, another is refused.
        command: the command line, for the manifest.
        started: told of each arm.
        pages: also make the page that `fedsim report` makes.
        replace: remove what there is of an earlier run before the new one begins.

    Raises:
        InputError: what `rehearse` found; no folder was made.
        OutputError: the folder holds something else, or another process writes there.
        FedsimError: whatever ended the run; the folder says so too.
    """
    rehearse(file)
    out = out or default_path(file)
    with RunFolder.open_for(out, file, command, replace=replace) as folder, file.runtime.held(file):
        diverged = _play(file, folder, "", started, pages)
    return _settled(folder, diverged)


def resume(
    path: Path, runtime: str = "", *, verbose: bool = False, started: Started = _unwatched, pages: bool = True
) -> Path:
    """Go on with a run that has not come to its end, from the last checkpoint that all seats have; returns where it lies.

    Of a run over seeds those that are not complete go on, then it is summed up.

    Args:
        path: the run folder.
        runtime: the kind of another runtime; default: the run's own.
        verbose: as the runtime's.
        started: told of each arm that is not over.
        pages: also make the page.

    Raises:
        OutputError: it cannot be taken up again; says why.
        FedsimError: whatever ended the run; the folder says so too.
    """
    path = public_folder(path)
    inspect_folder(path)
    place = find_unfinished(path) or path
    there = reading.read_manifest(place, schema.WrittenManifest)
    drifted = manifest.drift(there)
    file = config.read(str(place / "scenario.yaml"), runtime=runtime)
    if verbose:
        file = file.model_copy(update={"runtime": file.runtime.model_copy(update={"verbose": True})})

    def telling(title: str, arm: ScenarioFile) -> Watch:
        watch = started(title, arm)
        if drifted:
            watch(
                arm.plan().hub,
                {"notice": f"numbers may differ from those of the run as it began: {'; '.join(drifted)}"},
            )
        return watch

    for arm in file.arms().values():
        arm.runtime.check(arm)
    with RunFolder.reopen(path, file) as folder, file.runtime.held(file):
        if there["seeds"]:
            _play_seeds(file, folder, there["seeds"], there["command"], telling, going_on=True)
            diverged = None
        else:
            diverged = _play(file, folder, "", telling, pages)
    return _settled(folder, diverged)


@accept_any_source
def run_seeds(
    file: ScenarioFile,
    count: int,
    out: Path | None = None,
    *,
    command: Sequence[str] = (),
    started: Started = _unwatched,
    replace: bool = False,
) -> Path:
    """The same for ``count`` seeds from the file's own upward: a folder a seed, and a summary over them."""
    rehearse(file)
    seeds = [file.seed + i for i in range(count)]
    out = out or default_path(file, seeds)
    with RunFolder.open_for(out, file, command, seeds, replace=replace) as folder, file.runtime.held(file):
        _play_seeds(file, folder, seeds, command, started, replace=replace)
    return folder.path


def run_seat(
    file: ScenarioFile,
    role: RoleId,
    token: str,
    *,
    connect: str = "",
    listen: str = "",
    identity: Identity | None = None,
    plain: bool = False,
    wait: float = PATIENCE,
    secrets: Secrets = Secrets(),  # noqa: B008 (frozen)
    simulate: bool = False,
    out: Path | None = None,
    command: Sequence[str] = (),
    started: Started = _unwatched,
    replace: bool = False,
) -> Path:
    """Play one seat of one arm over the network, and write a run folder with its part; returns where it lies.

    Its page shows this seat only, with rows of its own data: it is for the seat's operator.

    Args:
        file: one arm of a scenario file; every seat must have the same.
        role: the seat.
        token: the run's token at the hub's seat, the seat's own at every other.
        connect: ``host:port`` of the hub, for every seat but the hub's.
        listen: ``host:port`` to listen at, for the hub's seat.
        identity: for a stream that is encrypted.
        plain: allow a stream to other machines that is not.
        wait: seconds for the others to come.
        secrets: the seat's own. Only to ``simulate`` it plays without: whoever has the file can then subtract its noise.
        out: the run folder; default ``runs/<name>-<digest8>-<role>``. What lies there of a run that did not come to its end
            is gone on from if all seats have theirs.
        command, started, replace: as for `run`.

    Raises:
        ConfigError: no such seat, or its address, certificate or secret cannot be used, or is missing.
        DataError: the seat's own table cannot be used.
        FedsimError: whatever ended the run; the folder says so too.
    """
    plan, path = file.plan(), default_path(file)
    _check_secret(role, secrets, simulate, token)
    _check_seat(file, role, connect, listen, secrets, identity, plain)
    out = out or path.with_name(f"{path.name}-{role}")
    with RunFolder.open_for(out, file, command, going_on=True, replace=replace) as folder:
        watch, start = folder.watch(file.name, started(f"{file.name}, {role}", file)), time.perf_counter()
        if simulate:
            watch(role, {"notice": describe_simulated(role)})
        kept = keeping(file, folder.path / CHECKPOINTS)
        shared: Any = {"identity": identity, "secrets": secrets, "watch": watch, "patience": wait}

        def play() -> SeatReport:
            hub, spoke = partial(play_hub, kept, token, listen), partial(play_spoke, kept, role, token, connect)
            return asyncio.run(hub(**shared) if role == plan.hub else spoke(**shared))

        report = supervised(play, file.restarts, lambda line: watch(role, {"notice": line}))
        folder.write([Arm(file.name, file, [report], time.perf_counter() - start)])
        folder.write_page(seat_page.render(folder.conclude()))
    return folder.path


def _check_secret(role: RoleId, secrets: Secrets, simulate: bool, token: str) -> None:
    """Refuse a seat of a network whose noise somebody else could subtract, unless it is to simulate."""
    if simulate != (secrets.own is None):
        found = "has a secret, and is to simulate" if simulate else "has no secret of its own"
        raise ConfigError(f"seat {role} {found}; expected a secret that only this seat has, or else to simulate")
    if secrets.own is not None and secrets.own == token.encode():
        raise ConfigError(f"the secret of seat {role} is its token, which the hub knows; fedsim keys makes both")


def _check_seat(
    file: ScenarioFile,
    role: RoleId,
    connect: str,
    listen: str,
    secrets: Secrets,
    identity: Identity | None,
    plain: bool,
) -> None:
    """Look at what is a seat's own, for what is wrong here is not to end the run of all the others; raises as `run_seat`."""
    plan = file.plan()
    find_device()
    if role not in plan.seats:
        raise ConfigError(f"no seat '{role}'{suggest(role, plan.seats)}")
    wanted, given = ("listen", listen) if role == plan.hub else ("connect", connect)
    if not given or (listen and connect):
        what = "is the hub, which listens" if role == plan.hub else f"connects to the hub, {plan.hub}"
        raise ConfigError(f"seat {role} {what}: expected --{wanted} HOST:PORT and nothing else")
    host, _ = split_address(given, f"--{wanted}")
    if listen and (reason := explain_listen(listen)):
        raise ConfigError(f"--listen: cannot listen at {listen}: {reason}")
    if identity is not None:
        identity.check(role, listens=role == plan.hub)
    elif not plain and not is_loopback(host):
        raise ConfigError(
            f"--{wanted} {given:.80}: to other machines the token and all that is exchanged would travel in plain text; "
            "give --ca, --cert and --key, which fedsim keys makes, or --plain if you trust everyone on that network"
        )
    if plan.seats[role].meet is not None:
        ids_key(secrets, Rng.root(file.seed))
        file.scenario.look(role)


def rehearse(file: ScenarioFile) -> None:
    """Check the runtime of every arm, and build the seats of those it keeps in this process: what is wrong shows at once.

    Raises:
        InputError: of a runtime, a data set, a cut or a model; names the arm, if there are several.
    """
    for arm in file.arms().values():
        arm.runtime.check(arm)
    tried = set()
    for name, arm in file.arms().items():
        parts = json.dumps([arm.seed, arm.scenario.model_dump(mode="json")], sort_keys=True)
        if arm.runtime.in_process and parts not in tried:
            build(file, name, arm)
        tried.add(parts)


def build(file: ScenarioFile, name: str, arm: ScenarioFile) -> dict[RoleId, Role]:
    """Every seat of one arm of a file, by name, in this process and with its simulated secret.

    Raises:
        InputError: as `rehearse`.
    """
    determine(arm.threads)
    public, plan = Rng.root(arm.seed), arm.plan()
    secrets = {role: Rng.secret(simulated_secret(arm.seed, role)) for role in plan.seats}
    try:
        seats = asyncio.run(meet_all(arm, plan))
        return {role: seat.build(public, secrets[role]) for role, seat in seats.items()}
    except InputError as error:
        raise type(error)(f"compare.{name}: {error}" if file.compare else str(error)) from error


def _play_seeds(
    file: ScenarioFile,
    folder: RunFolder,
    seeds: Sequence[int],
    command: Sequence[str],
    started: Started,
    going_on: bool = False,
    replace: bool = False,
) -> None:
    """Play each seed in a folder of its own, and sum up; ``going_on``: from what is there of it."""
    places = [folder.path / f"seed-{seed}" for seed in seeds]
    for seed, place in zip(seeds, places, strict=True):
        one = validate({**file.resolved(), "seed": seed}, file.name, {})
        if going_on and complete(place, one):
            discard_attempts(place)
            continue
        begun = going_on and (place / "manifest.json").exists()
        with (
            RunFolder.reopen(place, one) if begun else RunFolder.open_for(place, one, command, replace=replace) as each
        ):
            diverged = _play(one, each, f"seed {seed}, ", started, pages=True)
        _settled(each, diverged)
    folder.write_seeds(places)
    folder.write_page(page.render([folder.conclude()]))


def _play(file: ScenarioFile, folder: RunFolder, prefix: str, started: Started, pages: bool) -> DivergedError | None:
    """Play every arm and write what they leave; an arm that diverges ends only itself, and is returned, if another does not."""
    files = file.arms()
    places = {name: folder.path / CHECKPOINTS / slug for name, slug in slugs(files).items()}
    arms, lost = [], dict[str, DivergedError]()
    for name, arm in files.items():
        over = stored(places[name], arm)
        watch = folder.watch(name, started(f"{prefix}{name}", arm)) if over is None else _unwatched(name, arm)
        try:
            arms.append(Arm(name, arm, *(over or _play_arm(arm, places[name], watch))))
        except DivergedError as error:
            lost[name] = error
    if not arms:
        raise next(iter(lost.values()))
    folder.write(arms)
    diverged = None
    if lost:
        told = "; ".join(f"“{name}”: {error}" for name, error in lost.items())
        diverged = DivergedError(
            f"{folder.home}: {len(lost)} of {len(files)} arms diverged, the report is over the others; {told}"
        )
    ended = folder.conclude("failed", f"DivergedError: {diverged}") if diverged else folder.conclude()
    if pages:
        folder.write_page(page.render([ended]))
    return diverged


def _settled(folder: RunFolder, diverged: DivergedError | None) -> Path:
    """Where a run lies that has results; raises what has come of arms that have none."""
    if diverged is not None:
        if folder.path != folder.home:
            diverged.add_note(folder.describe_remains())
        raise diverged
    return folder.path


def _play_arm(arm: ScenarioFile, place: Path, watch: Watch) -> tuple[list[SeatReport], float]:
    """What the seats of an arm report, and the seconds that took."""
    kept, hub, start = keeping(arm, place), arm.plan().hub, time.perf_counter()
    reports = supervised(lambda: arm.runtime.run(kept, watch), arm.restarts, lambda line: watch(hub, {"notice": line}))
    seconds = time.perf_counter() - start
    if arm.checkpoint is not None:
        store(place, arm, reports, seconds)
    return reports, seconds
