"""``fedsim list`` and ``fedsim show``: what there is, read off the plugins themselves."""

from __future__ import annotations

import inspect
import itertools
import re
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.markup import escape

from fedsim.axes import Sweep
from fedsim.cli.tables import bare
from fedsim.cli.terminal import Terminal
from fedsim.config import Runtime, ScenarioFile, shipped
from fedsim.dataset import Dataset
from fedsim.errors import ConfigError, suggest
from fedsim.models import ModelConfig
from fedsim.plan import LinkConfig, Scenario
from fedsim.plugins import GROUPS, OneOf, Plugin, Settings, describe_origin, explain_unusable, find, is_own, names
from fedsim.shelf import Checkpoint
from fedsim.threat import AttackConfig, Defence, Trial, Wrapper

BASES: dict[str, type[Plugin]] = {
    "attacks": AttackConfig,
    "defences": Defence,
    "scenarios": Scenario,
    "data": Plugin,  # its base lies in parties, which fedsim does not import, as that of learners
    "datasets": Dataset,
    "wrappers": Wrapper,
    "learners": Plugin,
    "pretraining": Plugin,
    "models": ModelConfig,
    "runtimes": Runtime,
}

PARTS: dict[str, type[Settings]] = {
    "file": ScenarioFile,
    "links": LinkConfig,
    "trials": Trial,
    "sweep": Sweep,
    "checkpoint": Checkpoint,
}
"""The parts of a scenario file that are no plugins: its top level, an entry of each list, the sweep, checkpoints."""
WIDTH = 15
"""Of the column of kinds, in characters: the groups stand under each other."""


def print_kinds(group: str) -> None:
    """The kinds of one group, or of all, each with its first line; those of other distributions with where they come from.

    Other distributions are not imported: their code runs when somebody names a kind of theirs.

    Raises:
        ConfigError: no such group.
    """
    if group and group not in GROUPS:
        raise ConfigError(f"no group '{group}'{suggest(group, GROUPS)}")
    console = Terminal()
    for each in [group] if group else GROUPS:
        table = bare(each)
        table.show_header = False
        table.add_column(no_wrap=True, min_width=WIDTH)
        table.add_column()
        for kind in names(each):
            table.add_row(escape(kind), _line(each, kind))
        if each == "scenarios":
            for name, path in shipped().items():
                table.add_row(f"{name}.yaml", escape(_headline(path.read_text("utf-8"))))
        if table.row_count or group:
            console.print(table if table.row_count else f"{each}: none yet")
            console.print()


def _line(group: str, kind: str) -> str:
    """What a kind is, in one line, or why it cannot be used."""
    if not is_own(group, kind):
        return escape(explain_unusable(group, kind) or describe_origin(group, kind))
    try:
        return _summary(_find(group, kind))
    except ConfigError as error:
        return escape(str(error))


def print_kind(kind: str) -> None:
    """One kind in full, in each group where its name stands; or a part of a scenario file, such as ``links``.

    Raises:
        ConfigError: no such kind in any group, and no such part.
    """
    if kind in PARTS:
        _print_settings(Terminal(), PARTS[kind])
        return
    homes = [group for group in GROUPS if kind in names(group)]
    if not homes:
        everything = {*PARTS, *(name for group in GROUPS for name in names(group))}
        raise ConfigError(f"no kind '{kind}'{suggest(kind, everything)}")
    console = Terminal()
    for group in homes:
        _print_one(console, group, _find(group, kind))


def _print_one(console: Console, group: str, plugin: type[Plugin]) -> None:
    console.print(f"[bold]{plugin.kind()}[/bold] ({group})", highlight=False)
    console.print(_doc(plugin), highlight=False)
    if plugin.paper:
        console.print(f"\nSource: {escape(plugin.paper)}", highlight=False)
    if issubclass(plugin, AttackConfig):
        console.print(
            f"\nClaims: {plugin.about}. Needs to know: {', '.join(plugin.needs) or 'nothing'}.", highlight=False
        )
        console.print(f"Must see: {', '.join(plugin.sees)}. Scored by: {', '.join(plugin.metrics)}.", highlight=False)
    console.print()
    _print_settings(console, plugin)


def _print_settings(console: Console, settings: type[Settings]) -> None:
    table = bare("")
    for heading in ("setting", "type", "default"):
        table.add_column(heading, max_width=24)
    table.add_column("what it is")
    for name, field in settings.model_fields.items():
        table.add_row(
            field.alias or name, escape(_type(field)), escape(_default(field)), escape(field.description or "")
        )
    console.print(table if table.row_count else "It has no settings.")


def _find(group: str, kind: str) -> type[Plugin]:
    return find(group, kind, BASES[group])


def _summary(plugin: type[Plugin]) -> str:
    return " ".join(_doc(plugin).split("\n\n")[0].split())


def _doc(plugin: type[Plugin]) -> str:
    """The docstring for a terminal: paragraphs that wrap, no markup."""
    paragraphs = (inspect.getdoc(plugin) or "").replace("``", "'").split("\n\n")
    return escape("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def _headline(text: str) -> str:
    """The first sentence of what a scenario file says of itself at its top."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    said = " ".join(line.lstrip("# ") for line in lines)
    return re.split(r"(?<=[.?!]) ", said.partition(": ")[2] or said)[0]


def _type(field: FieldInfo) -> str:
    if any(isinstance(mark, OneOf) for mark in field.metadata):
        return "{kind: ...}"
    return _named(field.annotation)


def _named(annotation: Any) -> str:
    """A type as people write it: ``l2 | cosine``, ``list of int``, ``{name: ...}``."""
    origin, inner = get_origin(annotation), [a for a in get_args(annotation) if a is not Ellipsis]
    if origin is Literal:
        return " | ".join(str(value) for value in inner)
    if origin in (Union, UnionType):
        return " | ".join("none" if a is NoneType else _named(a) for a in inner)
    if origin is Annotated:
        return "{kind: ...}" if any(isinstance(mark, OneOf) for mark in inner[1:]) else _named(inner[0])
    if origin is tuple:
        return f"list of {_named(inner[0])}"
    if origin is dict:
        return "{name: ...}"
    if inspect.isclass(annotation) and issubclass(annotation, Settings):
        return "{" + ", ".join(field.alias or name for name, field in annotation.model_fields.items()) + "}"
    return {"str": "text", "float": "number", "int": "whole number", "bool": "true | false"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        value = field.default_factory()  # type: ignore[call-arg]
    elif field.default is PydanticUndefined:
        return "required"
    else:
        value = field.default
    if isinstance(value, Plugin):
        return value.caption()
    if isinstance(value, Settings):
        return ", ".join(f"{k} {v}" for k, v in value.model_dump().items())
    return _plain(value)


def _plain(value: Any) -> str:
    """A value as it stands in YAML."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)
