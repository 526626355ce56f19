"""``fedsim seat``: one seat by hand; ``fedsim keys``: what the seats of a run need to know each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedsim import experiment
from fedsim.cli.progress import Progress
from fedsim.config import ScenarioFile
from fedsim.distribution import format_install_command
from fedsim.errors import ConfigError, suggest
from fedsim.files import create_file
from fedsim.message import RoleId
from fedsim.report.fresh import fresh_folder
from fedsim.runtime._crew import environment
from fedsim.runtime._seat import Belongings
from fedsim.transport.addresses import split_address
from fedsim.transport.grpc import token_of
from fedsim.transport.tls import Identity

TOKEN = "FEDSIM_TOKEN"  # noqa: S105 (the name of a variable)
"""The environment variable that holds the token, so that it is on no command line."""


def play(
    file: ScenarioFile,
    arm: str,
    role: RoleId,
    connect: str,
    listen: str,
    token_file: Path | None,
    identity_files: tuple[Path | None, Path | None, Path | None],
    wait: float,
    own: Belongings,
    out: Path | None,
    replace: bool,
    plain: bool = False,
) -> Path:
    """Play one seat; returns its run folder.

    Args:
        identity_files: the authority's certificate, the seat's own and its key; all of them or none.
        wait: seconds for the others to come.
        own: where the seat's data and secrets lie.
        replace: remove an earlier run in ``out`` before this one begins.
        plain: allow a stream to other machines that is not encrypted.

    Raises:
        ConfigError: there is no token, no such arm or seat, an address is none, or certificates are wrong or missing.
    """
    file = _one_arm(file, arm)
    for option, address in (("--connect", connect), ("--listen", listen)):
        if address:
            split_address(address, option)
    if role not in (seats := file.plan().seats):
        raise ConfigError(f"no seat '{role}'{suggest(role, seats)}")
    token, identity = _token(token_file), _identity(*identity_files)
    file, secrets = own.at(file, role)
    os.environ.update(environment(file.placement.get(role, {})))
    with Progress() as progress:
        return experiment.run_seat(
            file,
            role,
            token,
            connect=connect,
            listen=listen,
            identity=identity,
            plain=plain,
            wait=wait,
            secrets=secrets,
            simulate=own.simulate,
            out=out,
            command=sys.argv,
            started=progress.arm,
            replace=replace,
        )


def write_keys(file: ScenarioFile, hosts: Sequence[str], days: float, out: Path) -> Path:
    """Write a folder for each seat of a scenario; returns where they lie.

    In each lie a certificate, its key, a token and a secret of the seat's own; where ids are matched also the key that they are
    hashed with, which is the same for all.

    Raises:
        ConfigError: a host is none, or `cryptography` is not installed.
        OutputError: there is something at ``out`` already.
    """
    try:
        from fedsim.transport.certificates import certify
    except ImportError as error:
        raise ConfigError(f"fedsim keys: cryptography is not installed; {format_install_command('flower')}") from error
    plans = [arm.plan() for arm in file.arms().values()]
    hub, roles = plans[0].hub, dict.fromkeys(role for plan in plans for role in plan.roster)
    token, ids_key = os.urandom(32).hex(), os.urandom(32).hex()
    tables = any(seat.meet for plan in plans for seat in plan.seats.values())
    identities = certify(hub, [role for role in roles if role != hub], hosts, days)
    with fresh_folder(out) as fresh:
        for role, identity in identities.items():
            (folder := fresh / role).mkdir(mode=0o700)
            shown = token if role == hub else token_of(token, role)
            contents = {"ca.pem": identity.ca, "cert.pem": identity.certificate, "key.pem": identity.key}
            contents |= {"token": f"{shown}\n".encode(), "secret": f"{os.urandom(32).hex()}\n".encode()}
            contents |= {"ids": f"{ids_key}\n".encode()} if tables else {}
            for name, content in contents.items():
                create_file(folder / name, content)
    return out


def _one_arm(file: ScenarioFile, name: str) -> ScenarioFile:
    arms = file.arms()
    if not name and len(arms) == 1:
        return next(iter(arms.values()))
    if name not in arms:
        found = f"no arm '{name}'" if name else "a seat plays one arm, and the file has several"
        raise ConfigError(f"--arm: {found}{suggest(name, arms)}")
    return arms[name]


def _identity(ca: Path | None, certificate: Path | None, key: Path | None) -> Identity | None:
    if ca and certificate and key:
        return Identity.read(ca, certificate, key)
    if ca or certificate or key:
        raise ConfigError("--ca, --cert, --key: expected all three, or none for a stream in plain text")
    return None


def _token(path: Path | None) -> str:
    if path is None:
        token, where = os.environ.get(TOKEN, ""), TOKEN
    else:
        where = f"--token-file {path}"
        try:
            token = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: cannot be read: {getattr(error, 'strerror', '') or error}") from error
    if not token:
        raise ConfigError(
            f"{where}: no token; the hub's seat needs the run's, every other one its own: fedsim keys makes them"
        )
    return token
