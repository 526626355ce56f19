"""State that is kept as JSON: from a frozen dataclass to plain values and back."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fedsim.errors import DataError

T = TypeVar("T")
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def dump_state(value: object) -> dict[str, Any]:
    """A dataclass as mappings, lists, strings and numbers."""
    state: dict[str, Any] = _adapter(type(value)).dump_python(value, mode="json")
    return state


def restore_state(kind: type[T], state: dict[str, Any]) -> T:
    """An object of ``kind`` from plain values; DataError if they are not those of one."""
    try:
        found: T = _adapter(kind).validate_python(state)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"not a state of {kind.__name__}: {where}: {first['msg']}") from error
    return found


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
