"""The plain value of a setting that a file leaves to its default, so that an override can change a part of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fedsim.errors import ConfigError
from fedsim.override import merge
from fedsim.plugins import Inherited, OneOf, find
from fedsim.safeyaml import YamlPath


def find_default(model: type[BaseModel], data: Mapping[str, Any], path: YamlPath) -> Any:
    """What the setting at ``path`` is where ``data``, the values of a ``model``, leaves it out: plain values, or None.

    Of a piece of configuration only the kind and what differs from its class's own defaults.
    """
    above: list[tuple[type[BaseModel], Mapping[str, Any]]] = []
    form, here = _Form(model, ()), data
    for part in path[:-1]:
        settings = form.find_settings(here)
        if settings is not None and isinstance(here, Mapping):
            above.append((settings, here))
        form, here = form.enter(part, here), _get(here, part)
        if here is None:
            return None
    settings = form.find_settings(here)
    return None if settings is None else _read_default(settings, str(path[-1]), above)


def merge_over(model: type[BaseModel], data: Mapping[str, Any], override: Mapping[str, Any]) -> Any:
    """`merge`, where an override that changes a part of a setting left to its default starts from that default."""
    merged = merge(data, override)
    for path in _mapping_paths(override, ()):
        if _get_deep(data, path) is None and "kind" not in (given := _get_deep(merged, path)):
            default = find_default(model, merged, path)
            if isinstance(default, dict):
                merged = _replace(merged, path, merge(default, given))
    return merged


class _Form:
    """What a value may be, by its annotation and the marks on it."""

    def __init__(self, annotation: Any, marks: Sequence[Any]) -> None:
        while (origin := get_origin(annotation)) in (Annotated, Union, UnionType):
            if origin is Annotated:
                annotation, *more = get_args(annotation)
                marks = (*marks, *more)
            else:
                choices = [choice for choice in get_args(annotation) if choice is not type(None)]
                annotation = choices[0] if len(choices) == 1 else None
        self.annotation, self.marks = annotation, marks

    def find_settings(self, value: Any) -> type[BaseModel] | None:
        """The class whose settings ``value`` holds; None if it holds none, or of no kind that exists."""
        group = next((mark.group for mark in self.marks if isinstance(mark, OneOf)), "")
        if group:
            kind = _get(value, "kind")
            try:
                return find(group, kind, self.annotation) if isinstance(kind, str) else None
            except (ConfigError, ImportError):
                return None
        return self.annotation if isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel) else None

    def enter(self, part: str | int, value: Any) -> _Form:
        """What the value at ``part`` of ``value`` may be."""
        settings = self.find_settings(value)
        if settings is not None:
            field = _find_field(settings, str(part))
            return _Form(None, ()) if field is None else _Form(field.annotation, field.metadata)
        origin, inner = get_origin(self.annotation), get_args(self.annotation)
        if origin is dict:
            return _Form(inner[1], ())
        return _Form(inner[0], ()) if origin in (list, tuple) and inner else _Form(None, ())


def _read_default(
    settings: type[BaseModel], name: str, above: Sequence[tuple[type[BaseModel], Mapping[str, Any]]]
) -> Any:
    field = _find_field(settings, name)
    if field is None:
        return None
    if any(isinstance(mark, Inherited) for mark in field.metadata):
        for i, (outer, values) in reversed(list(enumerate(above))):
            if _find_field(outer, name) is not None:
                return copy.deepcopy(values.get(name)) or _read_default(outer, name, above[:i])
    if field.default_factory_takes_validated_data:
        return None
    default = field.get_default(call_default_factory=True)
    return None if default is PydanticUndefined else _to_plain(default)


def _find_field(settings: type[BaseModel], name: str) -> FieldInfo | None:
    return next((f for key, f in settings.model_fields.items() if (f.alias or key) == name), None)


def _to_plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    return [_to_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _mapping_paths(value: Mapping[str, Any], path: YamlPath) -> Iterator[YamlPath]:
    """Where in a mapping there are mappings, the outer before the inner."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield (*path, key)
            yield from _mapping_paths(item, (*path, key))


def _get(value: Any, part: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(part)
    at = int(part) if isinstance(value, list | tuple) and str(part).isdecimal() else -1
    return value[at] if 0 <= at < len(value) else None


def _get_deep(value: Any, path: YamlPath) -> Any:
    for part in path:
        value = _get(value, part)
    return value


def _replace(value: Mapping[Any, Any], path: YamlPath, new: Any) -> dict[Any, Any]:
    """The same values, with another one at ``path``; nothing is changed in place."""
    first, *rest = path
    return {**value, first: _replace(value[first], tuple(rest), new) if rest else new}
