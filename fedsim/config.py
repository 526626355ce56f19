"""From a YAML file and overrides to a frozen `ScenarioFile`: the only input of every process of a run."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, field_validator

from fedsim import safeyaml
from fedsim.errors import ConfigError, suggest
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.plan import LinkConfig, Plan, Scenario, complete
from fedsim.plugins import GROUPS, NestedError, OneOf, Plugin, Settings, load
from fedsim.threat import Trial, Wrapper

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Runtime(Plugin, ABC):
    """Where roles live and which transport carries their frames; one subclass a file in ``fedsim/runtime``."""

    @abstractmethod
    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """Play one arm to the end: what each seat reports, in roster order.

        ``watch`` is called with the rows that roles log, while they do.
        """


def _local() -> Runtime:
    return load("runtimes", Runtime, {"kind": "local"})


class ScenarioFile(Settings):
    """A scenario file, resolved."""

    name: str = Field("", description="what the run is called; default: the name of the file")
    seed: int = Field(0, ge=0, description="the public seed: schedule and protocol follow from it")
    threads: int = Field(1, ge=1, description="torch threads of each process; part of the experiment: it changes bits")
    scenario: Annotated[Scenario, OneOf("scenarios")]
    links: tuple[LinkConfig, ...] = Field((), description="stages on links")
    seats: dict[RoleId, tuple[Annotated[Wrapper, OneOf("wrappers")], ...]] = Field({}, description="wrappers of seats")
    trials: tuple[Trial, ...] = Field((), description="who attacks whom, knowing what")
    compare: dict[str, dict[str, Any]] = Field({}, description="arms: each overrides this file; one report over all")
    placement: dict[RoleId, dict[str, float]] = Field({}, description="resources of seats; not part of the experiment")
    runtime: Annotated[Runtime, OneOf("runtimes")] = Field(default_factory=_local, description="where seats run")

    @field_validator("compare", mode="before")
    @classmethod
    def _empty_arms(cls, value: Any) -> Any:
        """``undefended:`` with nothing behind it is an arm that overrides nothing."""
        if isinstance(value, Mapping):
            return {name: {} if arm is None else arm for name, arm in value.items()}
        return value

    def resolved(self) -> dict[str, Any]:
        """The whole file as plain values, every default written out."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 of the experiment: the resolved file without runtime, placement, and where data lies."""
        dump = self.model_dump(mode="json", exclude={"runtime", "placement", "name"}, context={"experiment": True})
        return hashlib.sha256(json.dumps(dump, sort_keys=True).encode()).hexdigest()

    def arms(self) -> dict[str, ScenarioFile]:
        """The files to play, by the name of their arm; without ``compare`` one, by the name of the file.

        Raises:
            ConfigError: an arm overrides something into nonsense.
        """
        if not self.compare:
            return {self.name: self}
        base = {key: value for key, value in self.resolved().items() if key != "compare"}
        return {arm: validate(merge(base, override), f"compare.{arm}", {}) for arm, override in self.compare.items()}

    def plan(self) -> Plan:
        """Seats, flows, stages and trials of this file; for a file with arms, ask each arm."""
        return complete(self.scenario.plan(), self.links, self.seats, self.trials)


def read(source: str, overrides: Sequence[str] = ()) -> ScenarioFile:
    """Load a scenario file by path, or one that ships with fedsim by name, with ``path=value`` overrides.

    Raises:
        ConfigError: with the file, the line and the path of what is wrong.
    """
    path = _find(source)
    data, lines = safeyaml.read(path)
    for override in overrides:
        apply_override(data, override)
    data.setdefault("name", path.stem)
    file = validate(data, str(path), lines)
    for arm in file.arms().values():
        arm.plan()
    return file


def shipped() -> dict[str, Path]:
    """The scenario files that come with fedsim, by name."""
    folder = Path(str(files(GROUPS["scenarios"])))
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def validate(data: Mapping[str, Any], where: str, lines: Mapping[safeyaml.YamlPath, int]) -> ScenarioFile:
    """A `ScenarioFile` from plain values.

    Raises:
        ConfigError: a line for each thing that is wrong, at most five.
    """
    try:
        return ScenarioFile.model_validate(data)
    except ValidationError as error:
        found = [_line(path, detail, where, lines) for path, detail in _flatten(error)]
        raise ConfigError("\n".join(found[:5])) from error


def merge(base: Any, override: Any) -> Any:
    """``override`` over ``base``: mappings merge key by key unless they name different kinds; all else is replaced."""
    if not isinstance(base, Mapping) or not isinstance(override, Mapping):
        return override
    if "kind" in override and override["kind"] != base.get("kind"):
        return override
    return {**base, **{key: merge(base.get(key), value) for key, value in override.items()}}


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set ``a.b.0.c=value`` in plain values; the value is read as YAML.

    Raises:
        ConfigError: not of that form, or the path leads through something that is not there.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: expected path=value, such as scenario.batch=20")
    *parents, last = path.split(".")
    here: Any = data
    for part in parents:
        here = here.setdefault(part, {}) if isinstance(here, dict) else _item(here, part, override)
    if isinstance(here, list):
        _item(here, last, override)
        here[int(last)] = safeyaml.scalar(text)
    elif isinstance(here, dict):
        here[last] = safeyaml.scalar(text)
    else:
        raise ConfigError(f"--set {override}: '{path.rpartition('.')[0]}' holds {here!r:.40}, which has no parts")


def _item(here: Any, part: str, override: str) -> Any:
    index = int(part) if part.isdecimal() and len(part) < 10 else -1
    if not isinstance(here, list) or not 0 <= index < len(here):
        found = f"a list of {len(here)}" if isinstance(here, list) else f"{here!r:.40}"
        raise ConfigError(f"--set {override}: '{part}' leads nowhere; there is {found}")
    return here[index]


def _find(source: str) -> Path:
    path = Path(source)
    if path.exists() or path.suffix or "/" in source:
        return path
    if source not in shipped():
        raise ConfigError(f"no file and no scenario '{source}'{suggest(source, shipped())}")
    return shipped()[source]


def _flatten(
    error: ValidationError, prefix: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], ErrorDetails]]:
    for detail in error.errors():
        inner = detail.get("ctx", {}).get("error")
        if isinstance(inner, NestedError):
            yield from _flatten(inner.inner, prefix + detail["loc"])
        else:
            yield prefix + detail["loc"], detail


def _line(path: tuple[str | int, ...], detail: ErrorDetails, where: str, lines: Mapping[safeyaml.YamlPath, int]) -> str:
    line = safeyaml.locate(path, lines)
    message = detail["msg"].removeprefix("Value error, ")
    found = detail["input"]
    shown = f", found {found!r:.60}" if isinstance(found, str | int | float | bool) and "found" not in message else ""
    return f"{where}{f':{line}' if line else ''}: {'.'.join(map(str, path)) or 'file'}: {message}{shown}"
