"""What each JSON file of a run folder has to be for anything to be made of it; what is beside that is kept and not looked at.

The files are checked before use, because a run folder may come from a stranger: whatever a page, a table or a comparison takes
for granted stands here. Scenarios and plugins of others may add what they like.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from fedsim.confidence import METHODS

Name = Annotated[str, Field(max_length=2_000)]
Text = Annotated[str, Field(max_length=200_000)]
Count = Annotated[int, Field(ge=0, le=10**30)]
Number = float | bool | None
Scores = Annotated[dict[Name, Number], Field(max_length=10_000)]
Names = Annotated[list[Name], Field(max_length=100_000)]
Plugin = dict[str, Any]
"""A kind with its settings."""
MOST_ARMS, MOST_SEATS, MOST_PANEL, MOST_POINTS = 500, 5_000, 2_000, 1_000_000
"""Of a run; of an arm; rows or columns of a figure; points of a line."""


class Checked(BaseModel):
    """Part of a file: no text stands for a number, and what is not named here may be there as well."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class Cpu(Checked):
    """The processor of a run."""

    model: Text
    flags: Names
    cores: Count | None


class Git(Checked):
    """A revision, and whether files differed from it."""

    revision: Name
    dirty: bool


class Process(Checked):
    """Who writes a run."""

    host: Name
    pid: int = Field(ge=1, lt=1 << 31)


class Manifest(Checked):
    """``manifest.json``."""

    form: Literal[1] = Field(alias="schema")
    status: Literal["running", "complete", "interrupted", "failed"]
    digest: Name
    name: Name
    cause: Text | None = None
    data_sha256: Name | None = None
    seed: int | None = None
    seeds: list[int] = []
    command: Annotated[list[Text], Field(max_length=10_000)] = []
    started: Name = ""
    ended: Name | None = None
    resumed: Names = []
    versions: Annotated[dict[Name, Name | None], Field(max_length=1_000)] = {}
    platform: Text = ""
    cpu: Cpu | None = None
    threads: Count | None = None
    git: Git | None = None
    process: Process | None = None
    noise_source: Annotated[dict[Name, Name], Field(max_length=MOST_SEATS)] = {}

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        for time in (self.started, *self.resumed):
            if time:
                datetime.fromisoformat(time).timestamp()
        return self


class ToldManifest(Manifest):
    """The same of a run that a page, a card or a comparison tells of."""

    cause: Text | None
    data_sha256: Name | None
    seed: int | None
    seeds: list[int]
    command: Annotated[list[Text], Field(max_length=10_000)]
    started: Name = Field(min_length=1)
    ended: Name | None
    platform: Text
    cpu: Cpu
    threads: Count | None
    git: Git | None
    versions: Annotated[dict[Name, Name | None], Field(max_length=1_000)]


class WrittenManifest(Manifest):
    """The same of a run that is to go on."""

    data_sha256: Name | None
    seeds: list[int]
    command: Annotated[list[Text], Field(max_length=10_000)]
    started: Name = Field(min_length=1)
    versions: Annotated[dict[Name, Name | None], Field(max_length=1_000)]
    cpu: Cpu
    process: Process


class Measured(Checked):
    """What the numbers of an arm are about."""

    data: Any
    classes: list[Any] | None


class Trial(Checked):
    """One attack at one victim."""

    trial: int
    attack: Name
    label: Text
    settings: Plugin | None = None
    seat: Name
    victim: Name
    metric: Name
    score: Number
    chance: Number
    knows: Names = []
    scores: Scores
    chances: Scores


class Traffic(Checked):
    """How much was sent."""

    frames: Count
    bytes: Count


class Arm(Checked):
    """An arm of ``summary.json``."""

    digest: Name | None = None
    measured_on: Measured | None = None
    task: Scores
    baseline: Scores = {}
    trials: Annotated[list[Trial], Field(max_length=100_000)]
    weights_sha256: dict[Name, Name] = {}
    traffic: Traffic
    steps: Count
    missing: dict[Name, Count] = {}
    seconds: float


class ToldArm(Arm):
    """The same in a run that a page tells of."""

    digest: Name
    seed: int
    runtime: Name
    scenario: Name


class Summary(Checked):
    """``summary.json`` of a run, as far as its numbers go."""

    name: Name
    scenario: Name
    runtime: Name
    seed: int
    task: Scores
    baseline: Scores = {}
    trials: list[Trial]
    measured_on: Measured | None = None
    arms: Annotated[dict[Name, Arm], Field(min_length=1, max_length=MOST_ARMS)]


class ToldSummary(Summary):
    """The same of a run that a page tells of."""

    form: Literal[1] = Field(alias="schema")
    arms: Annotated[dict[Name, ToldArm], Field(min_length=1, max_length=MOST_ARMS)]  # type: ignore[assignment]


class Spread(Checked):
    """A mean over seeds with its interval."""

    mean: float | None
    low: float | None
    high: float | None
    n: Count = 0
    method: Name = "none"
    values: Annotated[list[float | bool | None], Field(max_length=100_000)]

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        if self.method not in METHODS:
            raise ValueError(f"no method of intervals: {self.method:.40}")
        if "method" in self.model_fields_set and "n" not in self.model_fields_set:
            raise ValueError("an interval is of a number of values")
        if (self.low is None) != (self.high is None) or (self.mean is None and self.low is not None):
            raise ValueError("an interval has two ends and a mean")
        return self


class Known(Spread):
    """A spread that has a mean."""

    mean: float


Spreads = Annotated[dict[Name, Spread], Field(max_length=10_000)]


class SpreadTrial(Checked):
    """One attack at one victim over seeds."""

    trial: int
    label: Text
    settings: Plugin | None = None
    seat: Name
    victim: Name
    metric: Name
    knows: Names
    score: Spread
    chance: Spread
    scores: Spreads
    chances: Spreads


class SpreadTraffic(Checked):
    """How much was sent, over seeds."""

    frames: Spread
    bytes: Spread


class SpreadArm(Checked):
    """An arm over seeds."""

    measured_on: Measured | None = None
    task: Spreads
    baseline: Spreads = {}
    gain: Spreads = {}
    price: Spreads
    trials: Annotated[list[SpreadTrial], Field(max_length=100_000)]
    traffic: SpreadTraffic
    seconds: Known

    def spreads(self) -> list[Spread]:
        """All that the page shows by seed."""
        parts = [*self.task.values(), *self.baseline.values(), *self.gain.values(), *self.price.values()]
        return [*parts, *(each for trial in self.trials for each in (trial.score, trial.chance))]


class SeedsSummary(Checked):
    """``summary.json`` over seeds."""

    form: Literal[1] = Field(alias="schema")
    name: Name
    scenario: Name
    runtime: Name
    seeds: Annotated[list[int], Field(min_length=1, max_length=100_000)]
    runs: Names
    level: float = Field(gt=0, lt=1)
    arms: Annotated[dict[Name, SpreadArm], Field(min_length=1, max_length=MOST_ARMS)]

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if len(self.runs) != len(self.seeds):
            raise ValueError(f"{len(self.runs)} runs of {len(self.seeds)} seeds")
        if any(len(each.values) != len(self.seeds) for arm in self.arms.values() for each in arm.spreads()):
            raise ValueError("values of other seeds")
        return self


class Failed(Checked):
    """A run of a sweep that failed."""

    seed: int
    run: Name
    cause: Text


class Figures(Checked):
    """What a cell of a sweep came to."""

    task: Spread
    leakage: Spread
    chance: Spread
    baseline: Spread | None = None


class Leakage(Checked):
    """What leaks in a cell by one metric."""

    leakage: Spread
    chance: Spread
    attacks: dict[Name, Count]
    front: bool


class CellResults(Checked):
    """What else the page of a sweep tells of a cell."""

    traffic: SpreadTraffic
    seconds: Known


class Cell(Checked):
    """A cell of a sweep."""

    name: Name
    at: dict[Name, Name]
    numbers: dict[Name, float]
    seeds: list[int]
    runs: Names
    failed: Annotated[list[Failed], Field(max_length=100_000)]
    left_out: Count
    measured_on: Measured | None = None
    figures: Figures | None
    leakages: dict[Name, Leakage] = {}
    attacks: dict[Name, Count] = {}
    results: CellResults | None
    front: bool


class SweepSummary(Checked):
    """``summary.json`` of a sweep."""

    form: Literal[1] = Field(alias="schema")
    name: Name
    scenario: Name
    level: float = Field(gt=0, lt=1)
    task: Name
    leakage: Name
    leakages: Annotated[list[Name], Field(max_length=100)] = []
    axes: Annotated[dict[Name, Names], Field(max_length=100)]
    drawn: Names
    attackers: Names
    cells: Annotated[list[Cell], Field(max_length=100_000)]

    @model_validator(mode="after")
    def _check_cells(self) -> Self:
        if not set(self.attackers) | set(self.drawn) <= self.axes.keys():
            raise ValueError("attackers, or numbers that are drawn, are no axes")
        for cell in self.cells:
            if cell.at.keys() != self.axes.keys() or any(cell.at[axis] not in self.axes[axis] for axis in self.axes):
                raise ValueError(f"cell {cell.name:.60!r} does not lie on the axes")
            if len(cell.runs) < len(cell.seeds):
                raise ValueError(f"cell {cell.name:.60!r} has more seeds than runs")
        return self


class Around(Checked):
    """What is around a seat, and what it did."""

    numbers: dict[Name, Any]
    changes: Annotated[list[Change], Field(max_length=100_000)] = []
    knowledge: Knowledge | None = None


class Change(Checked):
    """One bit that was changed."""

    parameter: Name
    at: list[int]
    bit: Any
    before: Any
    after: Any


class Knowledge(Checked):
    """What something around a seat was granted, and what it used."""

    granted: Names
    used: Names


class Described(Checked):
    """What sits at a seat, in the words of its role."""

    classes: list[str | float | bool] | None = None
    own: Described | None = None
    input: Annotated[list[int], Field(max_length=8)] | None = None
    columns: Names | None = None
    model: Any = None
    rows: dict[Name, Any] | None = None
    around: list[Around] = []

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.input and not isinstance(self.model or {}, dict):
            raise ValueError("a model of inputs has a kind and settings")
        return self


class Seat(Checked):
    """A seat of an arm in ``seats.json``."""

    describe: Described
    columns: Text | Names | None
    wrappers: Annotated[list[Plugin], Field(max_length=1_000)]
    model: Name | None
    withheld: Names | None = None


class Flow(Checked):
    """Who sends what to whom; ``from`` is in the file."""

    sender: Name = Field(alias="from")
    to: Name
    message: Name


class Defence(Flow):
    """A stage on one end of a link."""

    end: Literal["sender", "receiver"]
    kind: Name


class Sent(Flow):
    """What was sent of one kind on one link."""

    frames: Count
    bytes: Count


class Stage(Checked):
    """What a stage counted."""

    seat: Name
    link: Name
    stage: Name


class Found(Checked):
    """An attack at a victim in ``seats.json``."""

    trial: int
    attack: Defined
    label: Text
    paper: Text | None
    seat: Name
    victim: Name
    granted: Names
    saw: dict[Name, Count]
    used: Names
    notes: dict[Name, Any]
    seconds: float
    claim: Name | None = None
    shown: Name | None = None


class Defined(Checked):
    """A plugin by its kind, with its settings."""

    kind: Name


Values = Annotated[list[float | bool | None], Field(max_length=MOST_POINTS)]


class Drawn(Checked):
    """What all figures have."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())
    form: str
    seat: Name = ""
    title: Name
    note: Text = ""


class Line(Checked):
    """A line of a figure."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())
    name: Name
    x: Annotated[list[float], Field(max_length=MOST_POINTS)]
    y: Values
    dashed: bool = False

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError("as many points along as up")
        return self


class Lines(Drawn):
    """Lines over one axis."""

    along: Name
    up: Name
    lines: Annotated[list[Line], Field(max_length=500)]
    log: bool = False


class Grid(Drawn):
    """Numbers by row and column."""

    rows: Annotated[list[Name], Field(max_length=MOST_PANEL)]
    columns: Annotated[list[Name], Field(max_length=MOST_PANEL)]
    values: list[Values]
    shaded: bool = True
    along: Name = ""
    up: Name = ""

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if [len(self.columns)] * len(self.rows) != [len(row) for row in self.values]:
            raise ValueError("as many values as rows and columns")
        return self


class Bars(Drawn):
    """A bar for each name."""

    names: Annotated[list[Name], Field(max_length=MOST_PANEL)]
    values: Values
    errors: Values = []
    along: Name = ""

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if len(self.values) != len(self.names) or (self.errors and len(self.errors) != len(self.names)):
            raise ValueError("as many values as names")
        return self


def _form(value: Any) -> str:
    form = value.get("form") if isinstance(value, dict) else None
    return form if form in ("lines", "grid", "bars") else "other"


Figure = Annotated[
    Annotated[Lines, Tag("lines")]
    | Annotated[Grid, Tag("grid")]
    | Annotated[Bars, Tag("bars")]
    | Annotated[dict[str, Any], Tag("other")],  # whoever draws it refuses it
    Discriminator(_form),
]


class JudgedAttack(Checked):
    """An attack on the seat whose own run folder this is, in its ``seats.json``."""

    attack: Defined
    label: Text
    seat: Name
    victim: Name
    granted: Names
    scores: dict[Name, Number]
    chances: dict[Name, Number]
    shown: Name | None = None


class Record(Checked):
    """An arm of ``seats.json``."""

    hub: Name
    seats: Annotated[dict[Name, Seat], Field(max_length=MOST_SEATS)]
    flows: Annotated[list[Flow], Field(max_length=100_000)]
    defences: Annotated[list[Defence], Field(max_length=100_000)]
    stages: Annotated[list[Stage], Field(max_length=100_000)] = []
    figures: Annotated[list[Figure], Field(max_length=1_000)] = []
    traffic: Annotated[list[Sent], Field(max_length=100_000)]
    findings: Annotated[list[Found], Field(max_length=100_000)]
    judged: Annotated[list[JudgedAttack], Field(max_length=100_000)] = []
    one_operator: bool = False


class Seats(Checked):
    """``seats.json``."""

    arms: Annotated[dict[Name, Record], Field(max_length=MOST_ARMS)]


class LoggedRow(Checked):
    """A line of ``metrics.jsonl``."""

    arm: Name | None = None
    role: Name | None = None
    step: float | None = None
    loss: Number = None
    test: dict[Name, Number] = {}

    @model_validator(mode="after")
    def _check_step(self) -> Self:
        if self.step is None and self.model_fields_set & {"loss", "test"}:
            raise ValueError("a row with a loss or a score has a step")
        return self


LoggedRows = TypeAdapter(list[LoggedRow])
for _each in (Around, Found):
    _each.model_rebuild()


def explain_mismatch(error: ValidationError, extra: Sequence[str] = ()) -> str:
    """Where a value does not fit, and why, in a few words."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join([*extra, *(str(part)[:80] for part in first["loc"])])
    found = "" if first["type"] == "missing" else f", found {_short(first['input'])}"
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected").replace("Field", "it is")
    return f"{where}: {said[:200]}{found}" if where else f"{said[:200]}{found}"


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value) if not isinstance(value, str) else ascii(value[:50])
    return text if len(text) <= 60 else text[:59] + "…"
