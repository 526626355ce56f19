"""Changing plain values: what lies at a path, or a whole mapping merged over another."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from fedsim import safeyaml
from fedsim.errors import ConfigError

SIGNS = frozenset("|>,&*!%@`?:-# \t")
"""Characters that mean something else in YAML, or nothing, where one of them stands alone as a value."""


def merge(base: Any, override: Any) -> Any:
    """``override`` over ``base``: mappings merge key by key unless they name different kinds; all else is replaced."""
    if not isinstance(base, Mapping) or not isinstance(override, Mapping):
        return override
    if "kind" in override and override["kind"] != base.get("kind"):
        return override
    return {**base, **{key: merge(base.get(key), value) for key, value in override.items()}}


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set ``a.b.0.c=value`` in plain values; the value is read as YAML, but a sign alone is itself, as in ``separator=|``.

    Raises:
        ConfigError: not of that form, or the path leads through something that is not there.
    """
    path, equals, text = override.partition("=")
    where = f"--set {' '.join(override.split())}"
    if not equals or not all(path.split(".")):
        raise ConfigError(f"{where}: expected path=value, such as scenario.batch=20")
    put(data, path, text if text in SIGNS else safeyaml.scalar(text, where), where)


def put(data: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set the value at ``a.b.0.c``; ``where`` is what errors call the change.

    Raises:
        ConfigError: the path leads through something that is not there.
    """
    last, here = path.split(".")[-1], around(data, path, where)
    if isinstance(here, dict):
        here[last] = value
    else:
        _item(here, last, where)
        here[int(last)] = value


def around(data: dict[str, Any], path: str, where: str) -> Any:
    """What holds the last part of ``path``; mappings on the way that are not there, or have nothing in them, are made.

    Raises:
        ConfigError: as `put`.
    """
    parts = path.split(".")
    here: Any = data
    for part, following in pairwise(parts):
        here = _enter(here, part, following, where)
    return here


def _enter(here: Any, part: str, following: str, where: str) -> Any:
    if not isinstance(here, dict):
        return _item(here, part, where)
    if here.get(part) is None:
        if following.isdecimal():
            raise ConfigError(f"{where}: there is no list '{part}'; set it whole: {part}=[...]")
        here[part] = {}
    return here[part]


def _item(here: Any, part: str, where: str) -> Any:
    index = int(part) if part.isdecimal() and len(part) < 10 else -1
    if not isinstance(here, list) or not 0 <= index < len(here):
        found = f"a list of {len(here)}" if isinstance(here, list) else f"{here!r:.40}, which has no parts"
        raise ConfigError(f"{where}: '{part}' leads nowhere; there is {found}")
    return here[index]
