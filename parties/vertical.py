"""A vertical federation as a scenario: who holds which columns, who holds the labels, which exchange, which models."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator
from torch import Tensor

from fedsim.errors import ConfigError, DataError, suggest
from fedsim.message import Flow, RoleId
from fedsim.metrics import classification
from fedsim.models import ModelConfig
from fedsim.net import Net
from fedsim.parties.appraisal import Appraisal, Fairness, Resilience, Worth
from fedsim.parties.appraisal.taking import Taken, appraiser, check_favourable, may_know, owners, take_up, take_up_top
from fedsim.parties.augment import Augment
from fedsim.parties.classes import fit_classes, note_copies, note_labels, note_unseen
from fedsim.parties.column_names import spell_columns
from fedsim.parties.cut import Part
from fedsim.parties.data import Columns, Data, Held
from fedsim.parties.data._raw import RawTable
from fedsim.parties.encode import Encoder, Raw, pick_rows
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import Baseline, LabelHolder, Scoring, make_baseline
from fedsim.parties.predict import predictor
from fedsim.plan import NewRows, Plan, Saved, Scenario, Seat
from fedsim.plugins import Inherited, OneOf, Settings, load
from fedsim.resilience import Axis
from fedsim.seeding import Rng
from fedsim.threat import Wrapper
from fedsim.vfl.bottom import Bottom
from fedsim.vfl.bounds import check_bounded
from fedsim.vfl.building import build_network
from fedsim.vfl.harden import PLAIN, Hardening
from fedsim.vfl.modules import has_dropout
from fedsim.vfl.network import Network
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Sampling, Schedule, Turn, Window
from fedsim.vfl.top import HubModel, Top

SERVER = "server"


S = TypeVar("S", bound=Settings)


class AtParty(Protocol):
    """What a scenario has a party do before or after the training."""

    async def at_party(self, party: FeatureParty, net: Net) -> None:
        """A party's half."""


class Epilogue(AtParty, Protocol):
    """What a scenario has its seats do after the training: one half at the hub, one at each other party."""

    async def at_hub(self, hub: LabelHolder, net: Net) -> None:
        """The hub's half; also for the bottom at its own seat."""


class Prologue(AtParty, Protocol):
    """What a scenario has its seats do before the training, likewise."""

    async def at_hub(self, hub: LabelHolder, net: Net) -> None:
        """The hub's half; also for the bottom at its own seat."""


def _default(kind: type[S]) -> S:
    return kind.model_validate({})


def _model(kind: str) -> ModelConfig:
    return load("models", ModelConfig, {"kind": kind})


class PartyConfig(Settings):
    """One party: its columns, and what it does differently from the others."""

    columns: Annotated[str | tuple[str, ...], BeforeValidator(spell_columns)] = Field(
        description="'age, sex', 'mean *', '0:10'; for images '0:14, 0:14'"
    )
    bottom: Annotated[Annotated[ModelConfig, OneOf("models")] | None, Inherited()] = Field(
        None, description="default: the scenario's bottom"
    )
    embedding: int | None = Field(None, ge=1, description="default: the scenario's embedding")
    disclose: bool = Field(False, description="whether the party consents to show what its features are worth")


class Vertical(Scenario, ABC):
    """The settings that every vertical federation has."""

    uncarded: ClassVar[str] = ""

    exchange: Literal["split", "shared"] = Field(
        "split", description="split: embeddings up, their gradients down; shared: parameter gradients up, models down"
    )
    data: Annotated[Data, OneOf("data")] = Field(description="where the rows come from")
    parties: dict[RoleId, PartyConfig] = Field(min_length=1, description="by name, in roster order")
    labels: RoleId = Field(SERVER, description="who holds the labels and the top model: server, or a party")
    bottom: Annotated[ModelConfig, OneOf("models")] = Field(
        default_factory=lambda: _model("mlp"), description="every party's model, unless it has its own"
    )
    embedding: int = Field(16, ge=1, description="width of every party's embedding, unless it has its own")
    top: Annotated[ModelConfig, OneOf("models")] = Field(
        default_factory=lambda: _model("linear"), description="the model over the joined embeddings"
    )
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="updates bottoms and top")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each target spread over all classes")
    augment: Augment | None = Field(None, description="each party varies its own training images: {shift: pixels}")
    batch: int = Field(32, ge=1, description="rows a training step")
    steps: int = Field(500, ge=1, description="training steps")
    sampling: Sampling = Field("epochs", description="epochs: each row once an epoch; uniform: fresh subsets")
    evaluate: int | None = Field(None, ge=1, description="steps between evaluations; default: a tenth of the steps")
    fairness: Fairness | None = Field(None, description="whom the trained federation treats how; default: not asked")
    worth: Worth | None = Field(None, description="what each party is worth to it; default: not asked")
    resilience: Resilience | None = Field(None, description="what it bears, seat by seat; default: not asked")
    trained: Taken | None = Field(
        None,
        description="a run of this scenario whose weights are taken up: nothing is trained, and nothing done afterwards "
        "but what fairness, worth and resilience ask for",
    )

    @field_validator("parties")
    @classmethod
    def _names(cls, parties: dict[RoleId, PartyConfig]) -> dict[RoleId, PartyConfig]:
        for name in parties:
            if name == SERVER or not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"'{name}' cannot name a party: letters, digits, - and _, and not '{SERVER}'")
        return parties

    @model_validator(mode="after")
    def _seats_of_the_data(self) -> Self:
        self.data.check_seats(self.roster())
        return self

    def plan(self) -> Plan:
        """See `Scenario.plan`."""
        if self.labels != SERVER and self.labels not in self.parties:
            raise ConfigError(
                f"scenario.labels: no seat '{self.labels}'{suggest(self.labels, [SERVER, *self.parties])}"
            )
        self._check_columns()
        others = [name for name in self.parties if name != self.labels]
        seats = {name: self._seat(name) for name in self.roster()}
        return Plan(self.labels, seats, tuple(flow for name in others for flow in self._flows(name)))

    def _check_columns(self) -> None:
        """Refuse a party that has nothing, where no header of a common table tells so."""
        if not self.feature_parties():
            raise ConfigError("scenario.parties: nobody has columns")
        for name in self.feature_parties() if self.data.apart else ():
            if not self.parties[name].columns:
                raise ConfigError(
                    f"scenario.parties.{name}.columns: party '{name}' has no columns; only the seat that holds the labels, "
                    f"{self.labels}, may have none"
                )

    def training_steps(self) -> int | None:
        """See `Scenario.training_steps`."""
        return None if self.trained else self.steps

    def count_steps_per_epoch(self) -> int | None:
        """See `Scenario.count_steps_per_epoch`."""
        if self.data.apart:
            return None
        train, _ = self.data.split(Rng.root(0))
        return -(-len(train) // self.batch)

    def data_digest(self) -> str:
        """See `Scenario.data_digest`."""
        return self.data.digest(self.roster())

    def at(self, role: RoleId, path: str) -> Vertical:
        """See `Scenario.at`."""
        return self.model_copy(update={"data": self.data.at(role, path)})

    def away(self) -> Mapping[RoleId, str]:
        """See `Scenario.away`."""
        return self.data.away(self.roster())

    def look(self, role: RoleId) -> None:
        """See `Scenario.look`."""
        self.data.look(self._held(role))

    def predictor(self, rows: NewRows, saved: Mapping[RoleId, Saved]) -> Plan:
        """See `Scenario.predictor`."""
        return predictor(self, rows, saved)

    def window_of_stillness(self) -> Window | None:
        """When the hub holds every model still; a plain federation never does."""
        return None

    def hardened(self) -> Hardening:
        """What is done in training against perturbed weights; in a plain federation nothing."""
        return PLAIN

    def needs_bounds(self) -> bool:
        """Whether bounds on changed weights are asked of every network, in training or afterwards."""
        return self.hardened().robust > 0

    def prologue(self, name: RoleId, labels: Tensor | None, public: Rng) -> Prologue | None:
        """What comes before the training at a seat, which has the labels or has not; in a plain federation nothing."""
        return None

    def prologue_kinds(self, party: RoleId) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """As `epilogue_kinds`, of the prologue with one party."""
        return (), ()

    def hub_model(self, labels: Tensor, classes: int, public: Rng, rng: Rng) -> HubModel:
        """What the hub trains with, over the labels (N,) of the training rows; in a plain federation the top model."""
        network = build_top(self, classes, rng)
        hardening = _harden(self, network, rng.child("hardening"))
        return Top(network, labels, self.optimiser, self.label_smoothing, hardening)

    def scoring(self, top: HubModel) -> Scoring:
        """How held-out rows are scored; ``top`` is what judged them."""
        return classification

    def baseline(self, class_counts: Tensor) -> Baseline:
        """How a constant guess is scored that knows how many training rows each class has, (C,)."""
        return make_baseline(class_counts)

    def epilogue(self, rng: Rng) -> Epilogue | None:
        """What comes after the training at a seat whose own node is ``rng``; in a plain federation nothing."""
        return None

    def epilogue_kinds(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The kinds of message of the epilogue: from a party to the hub, and back."""
        return (), ()

    def appraised(self, run: str, arm: str, by: Sequence[str]) -> Vertical:
        """See `Scenario.appraised`; what the file does not ask is asked with its defaults, but for columns."""
        fairness = (
            (self.fairness or Fairness(by=tuple(by))).model_copy(update={"by": tuple(by)}) if by else self.fairness
        )
        worth, resilience = self.worth or _default(Worth), self.resilience or _default(Resilience)
        asked = {"fairness": fairness, "worth": worth, "resilience": resilience}
        return self.model_copy(update={**asked, "trained": Taken(run=run, arm=arm)})

    def retrained(self) -> tuple[Vertical, Sequence[tuple[Axis, float, RoleId, Wrapper]]]:
        """See `Scenario.retrained`: training labels are wrong."""
        plain = self.model_copy(update={"fairness": None, "worth": None, "resilience": None})
        levels = (self.resilience or _default(Resilience)).labels
        axis = Axis("wrong labels", levels, levels)
        wrong = ((rate, load("wrappers", Wrapper, {"kind": "wrong_labels", "rate": rate})) for rate in levels)
        return plain, [(axis, rate, self.labels, wrapper) for rate, wrapper in wrong]

    def appraisal(self) -> Appraisal | None:
        """What is asked of the trained federation for a model card, if anything is."""
        if self.fairness is None and self.worth is None and self.resilience is None:
            return None
        disclosing = [name for name, party in self.parties.items() if party.disclose]
        asked = self.fairness, self.worth, self.resilience
        return Appraisal(self.feature_parties(), self.labels, *asked, owners(self), disclosing)

    def schedule(self, rng: Rng, train: int, test: int) -> Schedule:
        """The turns, given how many rows there are.

        Raises:
            ConfigError: they are fewer than a batch.
        """
        every = self.evaluate or max(1, self.steps // 10)
        window, rehearsals = self.window_of_stillness(), int(self.hardened().adversarial > 0)
        node = rng.child("schedule")
        over = self.trained is not None
        try:
            return Schedule(
                node, train, test, self.batch, self.steps, every, self.sampling, window, rehearsals, over=over
            )
        except ConfigError as error:
            if not self.data.left_out():
                raise
            raise ConfigError(f"{error}: the tables have only {train + test} ids in common") from error

    def part(self, name: RoleId) -> Part:
        """What one party holds; every seat checks the whole cut, unless it has a table of its own.

        The first seat of a process makes the cut for all of them.
        """
        try:
            if self.data.apart:
                return self.data.part(name, self._all_columns())
            return self.remember("cut", lambda: self.data.parts(self._all_columns()))[name]
        except DataError as error:
            raise DataError(f"scenario.parties: {error}") from error

    def _all_columns(self) -> dict[RoleId, Columns]:
        return {party: self._columns(party) for party in self.feature_parties()}

    def features(self, name: RoleId, rng: Rng) -> Raw:
        """A party's features of all rows, raw; ``rng`` is the seat's own, for what is drawn there.

        Raises:
            DataError: see `Data.read`.
        """
        return self.data.read_cells(self.part(name))

    def architecture(self, name: RoleId, shape: tuple[int, ...]) -> dict[str, Any]:
        """The configuration of a party's bottom, as plain values: what is disclosed when it is granted."""
        party = self.parties[name]
        model = party.bottom or self.bottom
        return {
            "model": model.model_dump(mode="json"),
            "shape": list(shape),
            "embedding": self.width(name),
        }

    def width(self, name: RoleId) -> int:
        """Of a party's embedding."""
        return self.parties[name].embedding or self.embedding

    def sends(self, turn: Turn, name: RoleId) -> tuple[int, int]:
        """The shape (B, E) of the embedding that a party sends for a turn; in training it may have its reach beside it."""
        reaches = turn.purpose == "train" and self.hardened().robust > 0
        return len(turn.rows), self.width(name) * (1 + reaches)

    def roster(self) -> list[RoleId]:
        """The seats of the federation, in order."""
        return [*([SERVER] if self.labels == SERVER else []), *self.parties]

    def feature_parties(self) -> list[RoleId]:
        """The parties that have features and a bottom: all but a label holder without columns."""
        return [name for name, party in self.parties.items() if party.columns or name != self.labels]

    def _seat(self, name: RoleId) -> Seat:
        meet = partial(self._meet, name) if self.data.apart else None
        if name == self.labels:
            known = frozenset({"rows", "labels"})
            return Seat(partial(build_hub, self), frozenset({"labels"}), known, meet=meet)
        facts = frozenset({"features"}), frozenset({"rows"}), frozenset({"bottom"})
        return Seat(partial(build_party, self, name), *facts, meet)

    async def _meet(self, name: RoleId, net: Net, key: bytes) -> Seat:
        """The seat, once it is known which of its rows all seats have."""
        data = await self.data.meet(self._held(name), net, key)
        return self.model_copy(update={"data": data})._seat(name)

    def _held(self, name: RoleId) -> Held:
        return Held(name, self._columns(name) if name in self.parties else [], name == self.labels)

    def _columns(self, party: RoleId) -> Columns:
        columns = self.parties[party].columns
        return columns if isinstance(columns, str) else list(columns)

    def _flows(self, party: RoleId) -> list[Flow]:
        up = ["Rows", "Embedding"] + (["Model", "ParameterGradient"] if self.exchange == "shared" else [])
        down = ["Gradient"] + (["Model"] if self.exchange == "shared" else [])
        grouped = (("GroupSums",), ("Outcomes",)) if may_know(self, party) else ((), ())
        explained = (("Varied",), ("Valued",)) if self.worth and self.parties[party].disclose else ((), ())
        for more_up, more_down in (self.prologue_kinds(party), self.epilogue_kinds(), grouped, explained):
            up, down = [*up, *more_up], [*down, *more_down]
        return [Flow(k, party, self.labels) for k in up] + [Flow(k, self.labels, party) for k in down]


def build_bottom(architecture: dict[str, Any], rng: Rng) -> Network:
    """A party's network from its architecture; the initial weights come from the seat's secret."""
    config = load("models", ModelConfig, architecture["model"])
    return _build("bottom", config, tuple(architecture["shape"]), architecture["embedding"], rng)


def build_party(
    scenario: Vertical, name: RoleId, public: Rng, private: Rng, epilogue: AtParty | None = None
) -> FeatureParty:
    """Read this party's slice, fit its preprocessing on its training rows, build its bottom.

    ``epilogue`` is what comes after the training instead of the party's half of the scenario's.
    """
    train_rows, test_rows = scenario.data.split(public.child("rows"))
    raw, notices = scenario.features(name, private), list[str]()
    seen, data = pick_rows(raw, train_rows), scenario.data
    encoder = Encoder.fit(seen, data.missing, data.parse_rules(), data.column_types(), notices)
    train, test = encoder.apply(seen), encoder.apply(pick_rows(raw, test_rows), notices)
    architecture = scenario.architecture(name, tuple(train.shape[1:]))
    if scenario.augment:
        scenario.augment.check(tuple(train.shape[1:]))
    network = build_bottom(architecture, private.child("bottom"))
    take_up(scenario, name, network, {"encoder": encoder.to_json(), "architecture": architecture})
    optimiser = scenario.optimiser.build(network.trained) if scenario.exchange == "split" else None
    schedule = scenario.schedule(public, len(train), len(test))
    augment = (scenario.augment.shifted, private.child("augment")) if scenario.augment else None
    hardening = _harden(scenario, network, private.child("hardening"))
    bottom = Bottom(network, {"train": train, "evaluate": test}, augment, hardening)
    epilogue = epilogue or (None if scenario.trained else scenario.epilogue(private.child("epilogue")))
    prologue, left_out = scenario.prologue(name, None, public), scenario.data.left_out()
    appraisal = appraiser(scenario, name, public)
    party = FeatureParty(bottom, optimiser, schedule, encoder, architecture, left_out, epilogue, prologue, appraisal)
    party.notices = notices
    return party


def build_hub(scenario: Vertical, public: Rng, private: Rng) -> LabelHolder:
    """Read the labels, build the top; at a party's seat, build the party as well."""
    train_rows, test_rows = scenario.data.split(public.child("rows"))
    raw = scenario.data.labels()
    classes = fit_classes(raw, train_rows, test_rows, scenario.data.rows is not None)
    labels, held_out = classes.apply(raw[train_rows]), classes.apply(raw[test_rows])
    check_favourable(scenario, classes.classes)
    top = scenario.hub_model(labels, len(classes.classes), public, private.child("top"))
    take_up_top(scenario, top, classes.to_json())
    schedule = scenario.schedule(public, len(labels), len(held_out))
    own = None
    if scenario.labels in scenario.feature_parties():
        party = build_party(scenario, scenario.labels, public, private)
        own = (party, (party.bottom, party.optimiser or scenario.optimiser.build(party.bottom.network.trained)))
    bottoms = scenario.optimiser if scenario.exchange == "shared" else None
    prologue, epilogue = (
        scenario.prologue(scenario.labels, labels, public),
        None if scenario.trained else scenario.epilogue(private.child("epilogue")),
    )
    parties, left_out = scenario.feature_parties(), scenario.data.left_out()
    first, before = (top, held_out, schedule, parties, classes, scenario.sends), (left_out, epilogue, prologue)
    after = appraiser(scenario, scenario.labels, public)
    holder = LabelHolder(*first, bottoms, own, *before, scenario.scoring(top), after, scenario.baseline)
    holder.notices = [*note_labels(raw, classes), *note_unseen(labels, held_out, classes)]
    if own is not None and isinstance(features := scenario.features(scenario.labels, private), RawTable):
        holder.notices += note_copies(features.take_rows(train_rows), raw[train_rows])
    return holder


def _harden(scenario: Vertical, network: Network, rng: Rng) -> Hardening:
    hardening = scenario.hardened()
    if scenario.needs_bounds():
        check_bounded(network.module)
    if hardening.robust and has_dropout(network.module):
        raise ConfigError("scenario.hardening.robust: takes models without dropout; the bound is of the whole network")
    hardening.harden(network, rng)
    return hardening


def build_top(scenario: Vertical, classes: int, rng: Rng) -> Network:
    """The hub's network over all embeddings."""
    return build_head(scenario.top, sum(map(scenario.width, scenario.feature_parties())), classes, rng)


def build_head(config: ModelConfig, width: int, classes: int, rng: Rng) -> Network:
    """A network over embeddings, from (B, width) to logits (B, classes)."""
    return _build("top", config, (width,), classes, rng)


def _build(place: str, config: ModelConfig, shape: tuple[int, ...], out: int, rng: Rng) -> Network:
    try:
        return build_network(config, shape, out, rng)
    except ConfigError as error:
        raise ConfigError(f"scenario.{place}: {error}") from error
    except (RuntimeError, MemoryError, OverflowError) as error:  # as torch meets sizes that no machine has
        reason = "more memory than there is" if "alloc" in str(error) else str(error).partition("\n")[0]
        raise ConfigError(f"scenario.{place}: '{config.caption()}' from {shape} to {out} takes {reason}") from error
