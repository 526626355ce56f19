"""``fedsim compose``: what it takes to play a scenario in containers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedsim import config
from fedsim.distribution import format_install_command
from fedsim.errors import ConfigError
from fedsim.printable import print_text
from fedsim.runtime._seat import describe_simulated


def write_containers(
    source: str,
    overrides: Sequence[str],
    profile: str,
    host: str | None,
    image: str,
    wait: float,
    days: float,
    simulate: bool,
    out: Path,
) -> str:
    """Write a folder with a compose file, and in it one for each seat; returns what there is to do with it.

    Raises:
        ConfigError: the scenario, the host or the image is wrong, or `cryptography` is not installed.
        OutputError: there is something at ``out`` already.
    """
    try:
        from fedsim.runtime._containers import Federation
    except ImportError as error:
        raise ConfigError(
            f"fedsim compose: cryptography is not installed; {format_install_command('flower')}"
        ) from error
    federation = Federation(config.read(source, overrides, profile), host, image, wait, days, simulate)
    path = federation.write(out)
    if simulate:
        print_text(f"fedsim: {describe_simulated('every seat')}", err=True)
    if federation.apart:
        return f"containers: {path}; each seat's table belongs in {path}/seats/<seat>/data"
    return f"containers: {path}; all seats read the same data, whose files belong in {path}/seats/<seat>/data of each"
