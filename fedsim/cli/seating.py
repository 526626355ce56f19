"""``fedsim seat``: one seat by hand."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from fedsim import config, experiment
from fedsim.cli.progress import Progress
from fedsim.config import ScenarioFile
from fedsim.errors import ConfigError, suggest
from fedsim.message import RoleId
from fedsim.runtime._crew import environment

TOKEN = "FEDSIM_TOKEN"
"""The environment variable that holds the token, so that it is on no command line."""


def play(
    source: str,
    overrides: Sequence[str],
    arm: str,
    role: RoleId,
    connect: str,
    listen: str,
    token_file: Path | None,
    out: Path | None,
) -> Path:
    """Play one seat; returns its run folder.

    Raises:
        ConfigError: there is no token, no such arm or seat, or an address is none.
    """
    file = _one_arm(config.read(source, overrides), arm)
    for option, address in (("--connect", connect), ("--listen", listen)):
        if address and not re.fullmatch(r"\S+:\d{1,5}", address):
            raise ConfigError(f"{option}: expected HOST:PORT, such as 127.0.0.1:7000; found '{address}'")
    token = _token(token_file)
    os.environ.update(environment(file.placement.get(role, {})))
    with Progress() as progress:
        return experiment.run_seat(
            file, role, token, connect=connect, listen=listen, out=out, command=sys.argv, started=progress.arm
        )


def _one_arm(file: ScenarioFile, name: str) -> ScenarioFile:
    arms = file.arms()
    if not name and len(arms) == 1:
        return next(iter(arms.values()))
    if name not in arms:
        found = f"no arm '{name}'" if name else "a seat plays one arm, and the file has several"
        raise ConfigError(f"--arm: {found}{suggest(name, arms)}")
    return arms[name]


def _token(path: Path | None) -> str:
    if path is None:
        token, where = os.environ.get(TOKEN, ""), TOKEN
    else:
        where = f"--token-file {path}"
        try:
            token = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: cannot be read: {error}") from error
    if not token:
        raise ConfigError(
            f"{where}: no token; every seat of a run needs the same, such as 'openssl rand -hex 32' makes"
        )
    return token
