"""``fedsim compose``: what it takes to play a scenario in containers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedsim import config
from fedsim.errors import ConfigError


def write_containers(
    source: str, overrides: Sequence[str], profile: str, host: str, image: str, wait: float, days: float, out: Path
) -> Path:
    """Write a folder with a compose file, and in it one for each seat; returns where it lies.

    Raises:
        ConfigError: the scenario or the host is wrong, or `cryptography` is not installed.
        OutputError: there is something at ``out`` already.
    """
    try:
        from fedsim.runtime._containers import Federation
    except ImportError as error:
        raise ConfigError("fedsim compose: cryptography is not installed; pip install 'fedsim[flower]'") from error
    return Federation(config.read(source, overrides, profile), host, image, wait, days).write(out)
