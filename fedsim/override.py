"""Changing plain values: what lies at a path, or a whole mapping merged over another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from fedsim import safeyaml
from fedsim.errors import ConfigError

FindDefault = Callable[[Mapping[str, Any], tuple[str, ...]], Any]
"""Gives the plain value of a setting that is left out, from the values around it and its path; None where there is none."""
SIGNS = frozenset("|>,&*!%@`?:-# \t")
"""Characters that mean something else in YAML, or nothing, where one of them stands alone as a value."""


def merge(base: Any, override: Any) -> Any:
    """``override`` over ``base``: mappings merge key by key unless they name different kinds; all else is replaced."""
    if not isinstance(base, Mapping) or not isinstance(override, Mapping):
        return override
    if "kind" in override and override["kind"] != base.get("kind"):
        return override
    return {**base, **{key: merge(base.get(key), value) for key, value in override.items()}}


def leave_out(data: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Of values that are no scenario file: nothing has a default."""
    return None


def apply_override(data: dict[str, Any], override: str, find_default: FindDefault = leave_out) -> None:
    """Set ``a.b.0.c=value`` in plain values; the value is read as YAML, but a sign alone is itself, as in ``separator=|``.

    Raises:
        ConfigError: not of that form, or the path leads through something that is not there.
    """
    path, equals, text = override.partition("=")
    where = f"--set {' '.join(override.split())}"
    if not equals or not all(path.split(".")):
        raise ConfigError(f"{where}: expected path=value, such as scenario.batch=20")
    put(data, path, text if text in SIGNS else safeyaml.scalar(text, where), where, find_default)


def split_overrides(text: str) -> list[str]:
    """Overrides that stand in one text, separated by ``;``; two of them are one in a value, as in ``separator=;;``."""
    parts = text.replace(";;", "\0").split(";")
    return [part.strip().replace("\0", ";") for part in parts if part.strip()]


def put(data: dict[str, Any], path: str, value: Any, where: str, find_default: FindDefault = leave_out) -> None:
    """Set the value at ``a.b.0.c``; ``where`` is what errors call the change.

    Raises:
        ConfigError: the path leads through something that is not there.
    """
    last, here = path.split(".")[-1], around(data, path, where, find_default)
    if isinstance(here, dict):
        here[last] = value
    else:
        _item(here, last, where)
        here[int(last)] = value


def around(data: dict[str, Any], path: str, where: str, find_default: FindDefault = leave_out) -> Any:
    """What holds the last part of ``path``; what is not there on the way, or has nothing in it, is made from its default.

    Raises:
        ConfigError: as `put`.
    """
    parts = path.split(".")
    here: Any = data
    for i, (part, following) in enumerate(pairwise(parts)):
        if isinstance(here, dict) and here.get(part) is None:
            here[part] = _start(find_default(data, tuple(parts[: i + 1])), part, following, where)
        here = here[part] if isinstance(here, dict) else _item(here, part, where)
    return here


def _start(default: Any, part: str, following: str, where: str) -> Any:
    """What a setting that was left out is before ``following`` in it is changed."""
    if following.isdecimal():
        if not isinstance(default, list) or not default:
            raise ConfigError(f"{where}: there is no list '{part}'; set it whole: {part}=[...]")
        return default
    return default if isinstance(default, dict) and following != "kind" else {}


def _item(here: Any, part: str, where: str) -> Any:
    index = int(part) if part.isdecimal() and len(part) < 10 else -1
    if not isinstance(here, list) or not 0 <= index < len(here):
        found = f"a list of {len(here)}" if isinstance(here, list) else f"{here!r:.40}, which has no parts"
        raise ConfigError(f"{where}: '{part}' leads nowhere; there is {found}")
    return here[index]
