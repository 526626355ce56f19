"""A plugin in a file of one's own: find out what it is, and run the kit that fits."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from fedsim.config import Runtime
from fedsim.errors import ConfigError
from fedsim.models import ModelConfig
from fedsim.plan import Scenario
from fedsim.plugins import Plugin, only_plugin
from fedsim.testing.attacks import check_attack
from fedsim.testing.defences import check_defence
from fedsim.testing.expect import check_metadata
from fedsim.testing.models import check_model
from fedsim.testing.reach import check_reach
from fedsim.testing.scenarios import check_scenario
from fedsim.testing.wrappers import check_wrapper
from fedsim.threat import AttackConfig, Defence, Wrapper

PACKAGE = "_fedsim_checked"
"""Plugins under check are imported as ``_fedsim_checked.<kind>``, so that they hide no real module."""
Kit = Callable[[Any], Sequence[str] | None]
"""Checks a plugin; may return lines about what the plugin does not take."""

_KITS: Mapping[type[Plugin], tuple[str, Kit, str]] = {
    AttackConfig: ("attack", check_attack, "needs, purity, checkpoint in mid-run, claim"),
    Defence: ("defence", check_defence, "purity, kinds and shapes kept, checkpoint in mid-run"),
    ModelConfig: ("model", check_model, "shapes, initial weights, gradients, what is saved"),
    Scenario: ("scenario", check_scenario, "plan without data, seats, flows"),
    Wrapper: ("wrapper", check_wrapper, "the wrapped role is whole"),
    Runtime: ("runtime", check_metadata, "documentation; play a file with fedsim.testing.check_runtime"),
}


def check_plugin(path: Path, settings: Mapping[str, Any] | None = None) -> list[str]:
    """Check the one plugin that a file defines.

    Args:
        path: a Python file; its name is the plugin's kind.
        settings: of the plugin; default: its own defaults.

    Returns:
        Lines that say what was checked.

    Raises:
        ConfigError: the file cannot be imported, defines no plugin, or these settings do not fit.
        ConformanceError: the plugin breaks the contract of its kind.
    """
    plugin, base = _find(_load(path), path)
    if base is AttackConfig:
        check_reach(path.read_text(encoding="utf-8"), f"{path}: attack '{plugin.kind()}'")
    word, kit, parts = _KITS[base]
    named = f"{path}: {word} '{plugin.kind()}'"
    required = [name for name, field in plugin.model_fields.items() if field.is_required()]
    if settings is None and required and base is Scenario:
        return [f"{named} loads; {', '.join(required)} have no default: check a scenario file that names it"]
    remarks = kit(_configure(plugin, settings or {}, named)) or ()
    return [f"{named} keeps its contract: {parts}", *remarks]


def _load(path: Path) -> ModuleType:
    if not path.is_file() or path.suffix != ".py":
        raise ConfigError(f"{path}: expected a Python file that defines a plugin")
    if not path.stem.isidentifier():
        raise ConfigError(f"{path}: '{path.stem}' cannot be a kind; a kind is the name of a module")
    name = f"{PACKAGE}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _find(module: ModuleType, path: Path) -> tuple[type[Plugin], type[Plugin]]:
    """The plugin that a module defines, and the base class whose contract it is to keep."""
    for base in _KITS:
        if any(_defined(thing, module, base) for thing in vars(module).values()):
            return only_plugin(module, base), base
    allowed = ", ".join(base.__name__ for base in _KITS)
    raise ConfigError(f"{path}: defines no plugin; expected one class derived from one of: {allowed}")


def _defined(thing: object, module: ModuleType, base: type[Plugin]) -> bool:
    return inspect.isclass(thing) and issubclass(thing, base) and thing.__module__ == module.__name__


def _configure(plugin: type[Plugin], settings: Mapping[str, Any], named: str) -> Plugin:
    try:
        return plugin.model_validate(dict(settings))
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{named} with {'these' if settings else 'default'} settings: {'; '.join(lines)}") from error
