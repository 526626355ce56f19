"""Addresses of engines to join: they come from the operator, never from a file.

Whoever answers at such an address is believed: Ray unpickles what it is sent, which runs code. So a scenario file, which may
be a stranger's, names no engine, and a run folder, which may be handed on, does not tell of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedsim.safeyaml import YamlPath

SETTING = "address"
"""The setting of every runtime that joins an engine instead of starting one."""
ANYWHERE = "auto"
"""What names no engine, but leaves it to the machine and its environment which one is joined."""
NO_ENGINE = frozenset({None, "", ANYWHERE, "local"})


def find_engine_addresses(values: Any, path: YamlPath = ()) -> Iterator[tuple[YamlPath, str]]:
    """Yield where plain values of a scenario file, its arms or its profiles name an engine to join, and which."""
    if not isinstance(values, Mapping):
        return
    for key, value in values.items():
        if key == "runtime" and isinstance(value, Mapping):
            found = value.get(SETTING)
            if not (found is None or isinstance(found, str)) or found not in NO_ENGINE:
                yield (*path, key, SETTING), str(found)
        elif key in ("compare", "profiles") and isinstance(value, Mapping):
            for name, override in value.items():
                yield from find_engine_addresses(override, (*path, key, name))


def hide_engine_addresses(values: Any) -> Any:
    """Return plain values of a scenario file in which no engine is named: ``auto`` takes its place."""
    if not isinstance(values, Mapping):
        return values
    hidden = dict(values)
    for (*around, _), _ in list(find_engine_addresses(values)):
        here = hidden
        for part in around:
            here[part] = dict(here[part])
            here = here[part]
        here[SETTING] = ANYWHERE
    return hidden
