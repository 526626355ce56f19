"""Explain a wrong scenario file as a whole: its arms, settings at another level of the file, and epochs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from fedsim.default_values import merge_over
from fedsim.errors import InputError
from fedsim.foreign_words import FOREIGN_WORDS, find_setting, is_epochs
from fedsim.mistakes import Places, find_mistakes, join_lines
from fedsim.plan import Scenario
from fedsim.plugins import Plugin, find, load, setting_names
from fedsim.safeyaml import YamlPath


def explain_file(model: type[BaseModel], error: ValidationError, data: Mapping[str, Any], places: Places) -> str:
    """A line for each thing that is wrong in a file that is no ``model``, and in what its arms override."""
    wrong = find_mistakes(error, data, places)
    lines = [_add_hint(model, path, line, data) for path, line in wrong.items()]
    arms = data.get("compare")
    base = {key: value for key, value in data.items() if key not in ("compare", "sweep")}
    for name, arm in arms.items() if isinstance(arms, Mapping) else ():
        if isinstance(name, str) and isinstance(arm, Mapping):
            lines += _explain_arm(model, merge_over(model, base, arm), wrong, replace(places, arm=name))
    return join_lines(lines)


def _explain_arm(
    model: type[BaseModel], merged: Mapping[str, Any], wrong: Collection[YamlPath], places: Places
) -> Iterator[str]:
    """What is wrong because of an arm, beside what is wrong in the file itself."""
    try:
        model.model_validate(merged)
    except ValidationError as error:
        for path, line in find_mistakes(error, merged, places).items():
            if ("compare", places.arm, *path) in places.lines or path not in wrong:
                yield _add_hint(model, path, line, merged)


def _add_hint(model: type[BaseModel], path: YamlPath, line: str, data: Mapping[str, Any]) -> str:
    """A line about an unknown key, with the level of the file at which the key belongs, and what epochs are in steps."""
    if not path or ": unknown key '" not in line:
        return line
    word, hinted = str(path[-1]), line.partition("; did you mean '")[2].partition("'")[0]
    by_likeness = bool(hinted) and not find_setting(word, (hinted,))
    for level, settings in _levels(model, data):
        key = find_setting(word, settings) if level != path[:-1] else ""
        if key and (key == word or not hinted or (by_likeness and word in FOREIGN_WORDS)):
            *above, key = (*level, *key.split("."))
            where = f"under '{'.'.join(above)}'" if above else "at the top of the file"
            begin, listed, allowed = line.partition(" allowed: ")
            begin = begin.partition("; did you mean ")[0].removesuffix(";")
            line = f"{begin}; did you mean '{key}' {where}?{listed}{allowed}"
            break
    return _add_steps(line, data) if is_epochs(word) and path[:-1] in ((), ("scenario",)) else line


def _levels(model: type[BaseModel], data: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Collection[str]]]:
    """By place in the file, the settings that are known there."""
    yield (), setting_names(model)
    scenario = data.get("scenario")
    for level, group, value in (
        (("scenario",), "scenarios", scenario),
        (("scenario", "data"), "data", scenario.get("data") if isinstance(scenario, Mapping) else None),
    ):
        kind = value.get("kind") if isinstance(value, Mapping) else None
        try:
            yield level, setting_names(find(group, kind, Plugin)) if isinstance(kind, str) else ()
        except InputError:  # an unknown kind is a mistake of its own
            continue


def _add_steps(line: str, data: Mapping[str, Any]) -> str:
    """How many steps an epoch is, where the rest of the file is right and its data is at hand."""
    note = "an epoch is as many steps as there are training rows / batch"
    try:
        settings = dict(data["scenario"])
        names = setting_names(find("scenarios", settings["kind"], Scenario))
        scenario = load("scenarios", Scenario, {k: v for k, v in settings.items() if k in names or k == "kind"})
        if count := scenario.count_steps_per_epoch():
            note = f"an epoch is {count} steps here"
    except (InputError, ValueError, KeyError, TypeError):
        pass
    begin, listed, allowed = line.partition(" allowed: ")
    return f"{begin.removesuffix(';')} ({note}){';' if listed else ''}{listed}{allowed}"
