"""Which party is worth adding, if a share of what parties say of themselves is a lie."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, model_validator

from fedsim.errors import ConfigError
from fedsim.message import Flow, RoleId
from fedsim.parties.arms import DOWN, UP, Contest
from fedsim.parties.arms.hub import Chooser
from fedsim.parties.arms.party import Candidate
from fedsim.parties.classes import fit_classes
from fedsim.parties.data import Array
from fedsim.parties.encode import Raw
from fedsim.parties.features import FeatureParty
from fedsim.parties.vertical import SERVER, Vertical, build_head, build_party
from fedsim.plan import Plan, Seat
from fedsim.seeding import Rng
from fedsim.vfl.network import Network
from fedsim.vfl.schedule import Schedule
from fedsim.vfl.top import Top

UNUSED = ("augment", "evaluate", "exchange", "fairness", "resilience", "trained", "worth")


class BestArm(Vertical):
    """Parties are the arms of a bandit: the hub finds out which of them lowers the loss most, by as few pulls as it can.

    The hub is the server, which has class frequencies only, or a party that has a model of its own features. A head for each
    candidate is trained once beforehand, beside the others; lies are stages on the links ``Reward`` to the hub.
    """

    resumes: ClassVar[bool] = True
    uncarded: ClassVar[str] = "it trains a head for each candidate, a model card is of one model"
    paper: ClassVar[str] = (
        "Mukherjee et al., Mean-based Best Arm Identification in Stochastic Bandits under Reward Contamination, "
        "NeurIPS 2021, arXiv 2111.07458 (radii: a reconstruction)"
    )

    noise: dict[RoleId, int] = Field(
        {}, description="candidates with nothing but noise: how many columns of it each has"
    )
    search: Contest = Field(
        default_factory=lambda: Contest.model_validate({}),
        description="how the best is searched for, and what a pull is",
    )

    @model_validator(mode="after")
    def _fits(self) -> BestArm:
        for name in UNUSED:
            if getattr(self, name) != type(self).model_fields[name].get_default():
                raise ValueError(f"{name}: a contest has none but its default; found {getattr(self, name)}")
        if self.data.apart:
            raise ValueError(
                f"data: a contest is over one table; found '{self.data.kind()}', where each seat has its own"
            )
        self._names(dict.fromkeys(self.noise, next(iter(self.parties.values()))))
        if both := sorted(self.noise.keys() & self.parties.keys()):
            raise ValueError(f"noise: '{both[0]}' is a party with columns already")
        if bad := [name for name, columns in self.noise.items() if columns < 1]:
            raise ValueError(f"noise: '{bad[0]}' needs at least one column")
        return self

    @property
    def candidates(self) -> list[RoleId]:
        """Every arm, in roster order."""
        return [name for name in (*self.parties, *self.noise) if name != self.labels]

    def plan(self) -> Plan:
        """See `Scenario.plan`."""
        if len(self.candidates) < 2:
            raise ConfigError(f"scenario.parties: a contest needs two candidates, found {len(self.candidates)}")
        hub = Vertical.plan(self).hub
        if (least := len(self.candidates) * self.search.start) > self.search.max_pulls:
            raise ConfigError(
                f"scenario.search.max_pulls: expected at least {least}, start for each of {len(self.candidates)} candidates; "
                f"found {self.search.max_pulls}"
            )
        seats = {SERVER: Seat(partial(build_chooser, self))} if hub == SERVER else {}
        for name in (*self.parties, *self.noise):
            build = partial(build_chooser, self) if name == hub else partial(build_candidate, self, name)
            seats[name] = Seat(build)
        flows = [Flow(kind, name, hub) for name in self.candidates for kind in UP]
        return Plan(hub, seats, (*flows, *(Flow(kind, hub, name) for name in self.candidates for kind in DOWN)))

    def schedule(self, rng: Rng, train: int, test: int) -> Schedule:
        """Training turns only: what held-out rows are worth is for the pulls to find out."""
        return replace(Vertical.schedule(self, rng, train, test), test=0)

    def features(self, name: RoleId, rng: Rng) -> Raw:
        """Of a candidate with nothing but noise, noise."""
        if name not in self.noise:
            return Vertical.features(self, name, rng)
        import pandas as pd

        drawn: Array = rng.child("noise").numpy().standard_normal((self.data.count(), self.noise[name]))
        return pd.DataFrame(drawn, columns=[f"noise {k}" for k in range(self.noise[name])])

    def architecture(self, name: RoleId, shape: tuple[int, ...]) -> dict[str, Any]:
        """See `Vertical.architecture`."""
        if name not in self.noise:
            return Vertical.architecture(self, name, shape)
        return {"model": self.bottom.model_dump(mode="json"), "shape": list(shape), "embedding": self.width(name)}

    def width(self, name: RoleId) -> int:
        """See `Vertical.width`; candidates with nothing but noise have the scenario's."""
        return self.embedding if name in self.noise else Vertical.width(self, name)


def build_candidate(scenario: BestArm, name: RoleId, public: Rng, private: Rng) -> FeatureParty:
    """A feature party that answers pulls after the training."""

    def head(width: int, classes: int) -> Network:
        return build_head(scenario.top, width, classes, private.child("head"))

    candidate = Candidate(scenario.search.rows, public.child("pulls", name), head)
    return build_party(scenario, name, public, private, candidate)


def build_chooser(scenario: BestArm, public: Rng, private: Rng) -> Chooser:
    """Read the labels, build a head for each candidate; at a party's seat, build the party with a model of its own."""
    train_rows, test_rows = scenario.data.split(public.child("rows"))
    raw = scenario.data.labels()
    classes = fit_classes(raw, train_rows, test_rows)
    labels, held_out = classes.apply(raw[train_rows]), classes.apply(raw[test_rows])
    holds_features = scenario.labels in scenario.feature_parties()
    own_width = scenario.width(scenario.labels) if holds_features else 0

    def top(name: str, width: int) -> Top:
        network = build_head(scenario.top, width, len(classes.classes), private.child("top", name))
        return Top(network, labels, scenario.optimiser, scenario.label_smoothing)

    own = None
    if holds_features:
        own = build_party(scenario, scenario.labels, public, private), top(scenario.labels, own_width)
    heads = {name: top(name, own_width + scenario.width(name)) for name in scenario.candidates}
    schedule = scenario.schedule(public, len(labels), len(held_out))
    return Chooser(heads, held_out, schedule, classes, scenario.search, scenario.sends, own)
