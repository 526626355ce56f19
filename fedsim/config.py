"""From a YAML file and overrides to a frozen `ScenarioFile`: the only input of every process of a run."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError, field_validator

from fedsim import safeyaml
from fedsim.errors import ConfigError, ThreatModelError, suggest
from fedsim.message import RoleId
from fedsim.mistakes import Places, explain
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.plan import LinkConfig, Plan, Scenario, complete
from fedsim.plugins import GROUPS, OneOf, Plugin, Settings, load
from fedsim.threat import Trial, Wrapper


class Runtime(Plugin, ABC):
    """Where roles live and which transport carries their frames; one subclass a file in ``fedsim/runtime``."""

    in_process: ClassVar[bool] = False
    """Whether every seat lives in this process: all of them can then be tried out before a run folder is made."""

    verbose: bool = Field(False, description="let through what engines and the processes of seats print")

    @abstractmethod
    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """Play one arm to the end: what each seat reports, in roster order.

        ``watch`` is called with the rows that roles log, while they do; a row with a ``notice`` is a line for people.
        """


def _local() -> Runtime:
    return load("runtimes", Runtime, {"kind": "local"})


class ScenarioFile(Settings):
    """A scenario file, resolved."""

    name: str = Field("", description="what the run is called; default: the name of the file")
    seed: int = Field(0, ge=0, description="the public seed: schedule and protocol follow from it")
    threads: int = Field(
        1, ge=1, le=1024, description="torch threads of each process; part of the experiment: it changes bits"
    )
    scenario: Annotated[Scenario, OneOf("scenarios")]
    links: tuple[LinkConfig, ...] = Field((), description="stages on links")
    seats: dict[RoleId, tuple[Annotated[Wrapper, OneOf("wrappers")], ...]] = Field({}, description="wrappers of seats")
    trials: tuple[Trial, ...] = Field((), description="who attacks whom, knowing what")
    compare: dict[str, dict[str, Any]] = Field({}, description="arms: each overrides this file; one report over all")
    placement: dict[RoleId, dict[str, Annotated[float, Field(ge=0)]]] = Field(
        {}, description="by seat: gpus, cpus, and resources of a Ray cluster by name; not part of the experiment"
    )
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
        return {name: self._arm(name, Places(f"compare.{name}")) for name in self.compare}

    def plan(self) -> Plan:
        """Seats, flows, stages and trials of this file; for a file with arms, ask each arm.

        Raises:
            ConfigError: it names a seat, a link or a kind of message that does not exist.
            ThreatModelError: a trial's attack cannot run here.
        """
        plan = complete(self.scenario.plan(), self.links, self.seats, self.trials)
        for role in self.placement:
            if role not in plan.seats:
                raise ConfigError(f"placement: no seat '{role}'{suggest(role, plan.seats)}")
        return plan

    def check(self, places: Places) -> None:
        """Make every arm and its plan; errors say where what is wrong was written.

        Raises:
            ConfigError, ThreatModelError: see `arms` and `plan`.
        """
        for name in self.compare or [""]:
            inside = replace(places, arm=name)
            arm = self._arm(name, inside) if name else self
            try:
                arm.plan()
            except (ConfigError, ThreatModelError) as error:
                path = str(error).partition(":")[0].split(".")
                where = inside.of(tuple(int(part) if part.isdecimal() else part for part in path))
                raise type(error)(f"{where}: {error}") from error

    def _arm(self, name: str, places: Places) -> ScenarioFile:
        base = {key: value for key, value in self.resolved().items() if key != "compare"}
        if "compare" in self.compare[name]:
            raise ConfigError(f"{places.of(('compare',))}: compare: an arm cannot have arms")
        return _validate(merge(base, self.compare[name]), places)


def read(source: str, overrides: Sequence[str] = ()) -> ScenarioFile:
    """Load a scenario file by path, or one that ships with fedsim by name, with ``path=value`` overrides.

    Raises:
        ConfigError: with the file, the line and the path of what is wrong.
        ThreatModelError: the same of an attack that cannot run.
    """
    path = _find(source)
    data, lines = safeyaml.read(path)
    for override in overrides:
        apply_override(data, override)
    data.setdefault("name", path.stem)
    places = Places(str(path), lines, overrides)
    file = _validate(data, places)
    file.check(places)
    return file


def shipped() -> dict[str, Path]:
    """The scenario files that come with fedsim, by name."""
    folder = Path(str(files(GROUPS["scenarios"])))
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def validate(data: Mapping[str, Any], where: str, lines: Mapping[safeyaml.YamlPath, int]) -> ScenarioFile:
    """A `ScenarioFile` from plain values.

    Raises:
        ConfigError: a line for each thing that is wrong, at most a few.
    """
    return _validate(data, Places(where, lines))


def _validate(data: Mapping[str, Any], places: Places) -> ScenarioFile:
    try:
        return ScenarioFile.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, data, places)) from error


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
    override = " ".join(override.split())
    if not equals or not all(path.split(".")):
        raise ConfigError(f"--set {override}: expected path=value, such as scenario.batch=20")
    value = safeyaml.scalar(text, f"--set {override}")
    *parents, last = path.split(".")
    here: Any = data
    for part, following in zip(parents, path.split(".")[1:], strict=True):
        here = _enter(here, part, following, override)
    if isinstance(here, dict):
        here[last] = value
    else:
        _item(here, last, override)
        here[int(last)] = value


def _enter(here: Any, part: str, following: str, override: str) -> Any:
    """What lies under ``part``; a mapping that is not there, or has nothing in it, is made."""
    if not isinstance(here, dict):
        return _item(here, part, override)
    if here.get(part) is None:
        if following.isdecimal():
            raise ConfigError(f"--set {override}: there is no list '{part}'; set it whole: {part}=[...]")
        here[part] = {}
    return here[part]


def _item(here: Any, part: str, override: str) -> Any:
    index = int(part) if part.isdecimal() and len(part) < 10 else -1
    if not isinstance(here, list) or not 0 <= index < len(here):
        found = f"a list of {len(here)}" if isinstance(here, list) else f"{here!r:.40}, which has no parts"
        raise ConfigError(f"--set {override}: '{part}' leads nowhere; there is {found}")
    return here[index]


def _find(source: str) -> Path:
    path = Path(source)
    try:
        there = path.exists()
    except (OSError, ValueError) as error:  # too long a name, a zero byte
        raise ConfigError(f"{source:.60}: no such file; expected a scenario file (YAML)") from error
    if there or path.suffix or "/" in source:
        return path
    if source not in shipped():
        raise ConfigError(f"no file and no scenario '{source}'{suggest(source, shipped())}")
    return shipped()[source]
