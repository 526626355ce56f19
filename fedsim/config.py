"""From a YAML file and overrides to a frozen `ScenarioFile`: the only input of every process of a run."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from fedsim import safeyaml
from fedsim.axes import Cell, Sweep
from fedsim.default_values import find_default, merge_over
from fedsim.engines import find_engine_addresses, hide_engine_addresses
from fedsim.errors import ConfigError, ThreatModelError, restore_text, suggest
from fedsim.file_mistakes import explain_file
from fedsim.message import RoleId
from fedsim.mistakes import Places, explain, join_lines
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.override import apply_override
from fedsim.plan import Aim, LinkConfig, Missing, Plan, Scenario, complete
from fedsim.plugins import GROUPS, DisplayName, OneOf, Plugin, Settings, load, set_folder
from fedsim.printable import make_printable
from fedsim.shelf import Checkpoint
from fedsim.threat import Trial, Wrapper
from fedsim.vfl.device import find_device


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

    def check(self, file: ScenarioFile) -> None:
        """Check what can be known before anything starts, and before a run folder is opened.

        Raises:
            ConfigError: what the runtime needs is not installed, or ``FEDSIM_DEVICE`` names no device of this machine.
        """
        find_device()

    def held(self, file: ScenarioFile) -> AbstractContextManager[object]:
        """What the arms and seeds of a file share, if it is worth keeping between them; inside it `run` finds it there."""
        return nullcontext()


def _local() -> Runtime:
    return load("runtimes", Runtime, {"kind": "local"})


class ScenarioFile(Settings):
    """A scenario file, resolved."""

    name: DisplayName = Field("", description="what the run is called; default: the name of the file")
    seed: int = Field(0, ge=0, description="the public seed: schedule and protocol follow from it")
    threads: int = Field(
        1, ge=1, le=1024, description="torch threads of each process; part of the experiment: it changes bits"
    )
    scenario: Annotated[Scenario, OneOf("scenarios")]
    links: tuple[LinkConfig, ...] = Field((), description="stages on links")
    seats: dict[RoleId, tuple[Annotated[Wrapper, OneOf("wrappers")], ...]] = Field({}, description="wrappers of seats")
    trials: tuple[Trial, ...] = Field((), description="who attacks whom, knowing what")
    compare: dict[DisplayName, dict[str, Any]] = Field(
        {}, description="arms: each overrides this file; one report over all"
    )
    profiles: dict[DisplayName, dict[str, Any]] = Field(
        {},
        exclude=True,
        description="variants: each overrides this file; --profile chooses one, else the first is played",
    )
    missing: tuple[Missing, ...] = Field(
        (),
        description="what the hub does when a party's message does not come in time, or a list of that with the parties of "
        "each; default: it waits",
    )
    checkpoint: Checkpoint | None = Field(
        None, description="from where a run can be taken up again: {every: steps}; not part of the experiment"
    )
    sweep: Sweep | None = Field(None, description="variants to play with fedsim sweep; not part of the experiment")
    placement: dict[RoleId, dict[str, Annotated[float, Field(ge=0)]]] = Field(
        {}, description="by seat: gpus, cpus, and resources of a Ray cluster by name; not part of the experiment"
    )
    runtime: Annotated[Runtime, OneOf("runtimes")] = Field(default_factory=_local, description="where seats run")

    folder: str = Field(
        "",
        description="where relative paths of data start from, itself relative to this file; default: the file's own folder; "
        "not part of the experiment",
    )

    @model_validator(mode="after")
    def _set_folder(self) -> Self:
        set_folder(self.scenario, self.folder)
        return self

    @field_validator("compare", "profiles", mode="before")
    @classmethod
    def _empty_arms(cls, value: Any) -> Any:
        """``undefended:`` with nothing behind it is an arm that overrides nothing."""
        if isinstance(value, Mapping):
            return {name: {} if arm is None else arm for name, arm in value.items()}
        return value

    @field_validator("missing", mode="before")
    @classmethod
    def _policies(cls, value: Any) -> Any:
        """One policy need not stand in a list."""
        if isinstance(value, list | tuple):
            return value
        if value is not None and not isinstance(value, Mapping):
            raise ValueError("expected a mapping, such as {policy: drop, after: 5}, or a list of them")
        return () if value is None else (value,)

    @field_serializer("missing", mode="wrap")
    def _as_written(self, value: Any, handler: SerializerFunctionWrapHandler) -> Any:
        """One policy as itself, none as nothing."""
        policies = handler(value)
        return policies if len(policies) > 1 else next(iter(policies), None)

    def resolved(self) -> dict[str, Any]:
        """The whole file as plain values, every default written out."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 of the experiment: the resolved file without runtime, placement, and where data lies."""
        return self.remember("digest", self._digest)

    def _digest(self) -> str:
        other = {"runtime", "placement", "name", "sweep", "checkpoint", "folder"}
        if not self.missing:
            other.add("missing")
        dump = hide_engine_addresses(self.model_dump(mode="json", exclude=other, context={"experiment": True}))
        return hashlib.sha256(json.dumps(dump, sort_keys=True).encode()).hexdigest()

    def accord(self) -> str:
        """SHA-256 of what seats must have in common to play together: the experiment, and when they take checkpoints."""
        if self.checkpoint is None:
            return self.digest()
        return hashlib.sha256(f"{self.digest()} every {self.checkpoint.every}".encode()).hexdigest()

    def without_folder(self) -> ScenarioFile:
        """The same file for a seat that has its data in a place of its own."""
        return self.model_validate({**self.resolved(), "folder": ""})

    @property
    def restarts(self) -> int:
        """How often seats are started again after one has died; never without checkpoints."""
        return self.checkpoint.restarts if self.checkpoint else 0

    def arms(self) -> dict[str, ScenarioFile]:
        """The files to play, by the name of their arm; without ``compare`` one, by the name of the file.

        Raises:
            ConfigError: an arm overrides something into nonsense.
        """
        if not self.compare:
            return {self.name: self}
        return {name: self._arm(name, Places(f"compare.{name}")) for name in self.compare}

    def cells(self) -> list[tuple[Cell, ScenarioFile]]:
        """What a sweep plays: every cell, and the file with its changes under the file's own seed.

        Raises:
            ConfigError: there is no sweep, or a cell overrides something into nonsense.
        """
        if self.sweep is None:
            raise ConfigError(
                "sweep: missing; expected axes to vary, such as sweep: {grid: {scenario.batch: [20, 40]}}"
            )
        return [(cell, self._cell(cell, Places("sweep"))) for cell in self.sweep.cells(self.seed)]

    def sweep_digest(self) -> str:
        """SHA-256 of the experiment and its axes: how many seeds, samples or runs there are does not change a cell."""
        axes = self.sweep.model_dump(mode="json", include={"grid", "random"}) if self.sweep else {}
        return hashlib.sha256(f"{self.digest()} {json.dumps(axes, sort_keys=True)}".encode()).hexdigest()

    def plan(self) -> Plan:
        """Seats, flows, stages and trials of this file; for a file with arms, ask each arm.

        Raises:
            ConfigError: it names a seat, a link or a kind of message that does not exist.
            ThreatModelError: a trial's attack cannot run here.
        """
        return self.remember("plan", self._plan)

    def _plan(self) -> Plan:
        plan = complete(self.scenario.plan(), self.links, self.seats, self.trials)
        for role in self.placement:
            if role not in plan.seats:
                raise ConfigError(f"placement: no seat '{role}'{suggest(role, plan.seats)}")
        self._check_missing(plan)
        if self.checkpoint is not None:
            self._check_resumes()
        return plan

    def _check_missing(self, plan: Plan) -> None:
        """Refuse policies for nobody, or two for the same party."""
        if self.missing and not self.scenario.misses:
            kind = self.scenario.kind()
            raise ConfigError(f"missing: a scenario of kind '{kind}' cannot do without a message; leave missing out")
        several, done = len(self.missing) > 1, set[RoleId]()
        for i, policy in enumerate(self.missing):
            where = f"missing.{i}.only" if several else "missing.only"
            if several and not policy.only:
                raise ConfigError(f"{where}: names no party; where there are several policies each names its own")
            for role in policy.only:
                if role not in plan.seats or role == plan.hub:
                    raise ConfigError(f"{where}: no party '{role}'{suggest(role, set(plan.seats) - {plan.hub})}")
                if role in done:
                    raise ConfigError(f"{where}: '{role}' has a policy already; expected one for each party at most")
                done.add(role)

    def _check_resumes(self) -> None:
        """Refuse checkpoints of what could not be taken up again as it was."""
        last = [] if self.scenario.resumes else [f"a scenario of kind '{self.scenario.kind()}'"]
        wrapped = [wrapper for around in self.seats.values() for wrapper in around]
        last += [f"a wrapper of kind '{wrapper.kind()}'" for wrapper in wrapped if not wrapper.resumes]
        if last:
            raise ConfigError(
                f"checkpoint: {last[0]} does not say what its state is, and could not be resumed; leave checkpoint out"
            )

    def check(self, places: Places) -> None:
        """Make every arm, every cell of the sweep, and their plans; errors say where what is wrong was written.

        Raises:
            ConfigError, ThreatModelError: see `arms`, `cells` and `plan`.
        """
        for name, arm in self._arms_at(places).items():
            inside = replace(places, arm=name)
            try:
                arm.plan()
            except (ConfigError, ThreatModelError) as error:
                path = str(error).partition(":")[0].split(".")
                where = inside.of(tuple(int(part) if part.isdecimal() else part for part in path))
                raise type(error)(f"{where}: {error}") from error

        if self.sweep is not None:
            self._check_sweep(self.sweep, places)

    def _arms_at(self, places: Places) -> dict[str, ScenarioFile]:
        """The arms, or this file under ""; what is wrong in any of them is told at once."""
        found, wrong = {} if self.compare else {"": self}, list[str]()
        for name in self.compare:
            try:
                found[name] = self._arm(name, replace(places, arm=name))
            except ConfigError as error:
                wrong += str(error).splitlines()
        if wrong:
            raise ConfigError(join_lines(wrong))
        return found

    def _check_sweep(self, sweep: Sweep, places: Places) -> None:
        where = places.of(("sweep",))
        if self.compare:
            raise ConfigError(
                f"{where}: sweep: a file with arms cannot be swept; make them an axis, or set compare={{}}"
            )
        cells = sweep.cells(self.seed)
        if len({cell.name for cell in cells}) < len(cells):
            raise ConfigError(f"{where}: sweep: two cells have the same name; give the options of its axes other names")
        aims: list[Aim] = []
        for cell in cells:
            inside = Places(f"{where}: cell '{cell.name}'")
            try:
                aims += self._cell(cell, inside).plan().aims
            except (ConfigError, ThreatModelError) as error:
                raise type(error)(f"{inside.source}: {str(error).removeprefix(f'{inside.source}: ')}") from error
        metrics = {metric for aim in aims for metric in aim.attack.metrics}
        if sweep.leakage and sweep.leakage not in metrics:
            raise ConfigError(
                f"{where}: sweep.leakage: no attack has '{sweep.leakage}'{suggest(sweep.leakage, metrics)}"
            )

    def _cell(self, cell: Cell, places: Places) -> ScenarioFile:
        base = {**self.resolved(), "sweep": None, "name": f"{self.name}: {cell.name}"}
        return _validate(cell.apply(base, ScenarioFile), places)

    def _arm(self, name: str, places: Places) -> ScenarioFile:
        base = {key: value for key, value in self.resolved().items() if key not in ("compare", "sweep")}
        for key in ("compare", "sweep"):
            if key in self.compare[name]:
                raise ConfigError(
                    f"{places.of((key,))}: {key}: an arm cannot have {'arms' if key == 'compare' else 'a sweep'}"
                )
        return _validate(merge_over(ScenarioFile, base, self.compare[name]), places)


def read(source: str, overrides: Sequence[str] = (), profile: str = "", runtime: str = "") -> ScenarioFile:
    """Load a scenario file by path, or one that ships with fedsim by name, with ``path=value`` overrides.

    ``profile`` is one of the file's own, by default its first; ``runtime``, a kind, replaces one of another kind. Overrides go
    over both.

    Raises:
        ConfigError: with the file, the line and the path of what is wrong; also if the file names an engine to join.
        ThreatModelError: the same of an attack that cannot run.
    """
    path = _find(source)
    data, lines = safeyaml.read(path)
    data.setdefault("name", make_printable(restore_text(path.stem)))
    if profile or (isinstance(data.get("profiles"), dict) and data["profiles"]):
        data, lines = _profiled(data, lines, profile)
    _refuse_engines(data, Places(str(path), lines))
    given = data.get("runtime")
    if runtime and (not isinstance(given, dict) or given.get("kind") != runtime):
        data["runtime"] = {"kind": runtime}
    if path not in shipped().values() and isinstance(own := data.get("folder", ""), str):
        data["folder"] = str(path.parent.resolve() / own)
    for override in overrides:
        pinned = _pin_file(override, str(data.get("folder", "")))
        apply_override(data, pinned, partial(find_default, ScenarioFile))
    places = Places(str(path), lines, overrides)
    try:
        file = ScenarioFile.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain_file(ScenarioFile, error, data, places)) from error
    file.check(places)
    return file


def _refuse_engines(data: Mapping[str, Any], places: Places) -> None:
    """Refuse a file that says which engine to join; raises as `read`."""
    for where, address in find_engine_addresses(data):
        raise ConfigError(
            f"{places.of(where)}: {'.'.join(map(str, where))}: '{address:.60}': no file may name an engine to join, as whoever "
            "answers there can run code here; remove it, and give --set runtime.address=ADDRESS, or address: auto with "
            "RAY_ADDRESS"
        )


def _profiled(
    data: dict[str, Any], lines: dict[safeyaml.YamlPath, int], name: str
) -> tuple[dict[str, Any], dict[safeyaml.YamlPath, int]]:
    """A file's values and their lines with those of one of its profiles over them; its name says which."""
    profiles = data.get("profiles")
    if not isinstance(profiles, dict):
        raise ConfigError(f"--profile {name}: the file has no profiles")
    if name and name not in profiles:
        raise ConfigError(f"--profile: no profile '{name}'{suggest(name, profiles)}")
    name = name or next(iter(profiles))
    if not isinstance(profiles[name] or {}, dict):
        raise ConfigError(f"profiles.{name}: expected a mapping that overrides this file; found {profiles[name]!r:.60}")
    over = {path[2:]: line for path, line in lines.items() if path[:2] == ("profiles", name)}
    named = {**data, "name": f"{data['name']}-{name}"}
    return merge_over(ScenarioFile, named, profiles[name] or {}), lines | over


def _pin_file(override: str, folder: str) -> str:
    """An override that names a file of the current folder, of which the scenario's own folder has another by that name."""
    key, _, text = override.partition("=")
    here = Path(text)
    try:
        other = Path(folder, text)
        twice = folder and text and here.is_file() and other.is_file() and not here.samefile(other)
    except (OSError, ValueError):  # no name that a file can have
        return override
    return f"{key}={json.dumps(str(here.absolute()), ensure_ascii=False)}" if twice else override


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


def _find(source: str) -> Path:
    path = Path(source)
    try:
        there = path.exists() and not (path.is_dir() and source in shipped())
    except (OSError, ValueError) as error:  # too long a name, a zero byte
        raise ConfigError(f"{source:.60}: no such file; expected a scenario file (YAML)") from error
    if there or path.suffix or "/" in source:
        return path
    if source not in shipped():
        raise ConfigError(f"no file and no scenario '{source}'{suggest(source, shipped())}")
    return shipped()[source]
