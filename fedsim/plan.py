"""What a scenario file amounts to: seats, the messages that flow between them, stages on links, trials. Pure data.

Making a plan loads no data set; a seat is built, from its own slice only, in the process that owns it.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from fedsim.channel import Stage, only
from fedsim.errors import ConfigError, InputError, ThreatModelError, suggest
from fedsim.message import Flow, Message, RoleId
from fedsim.net import Net
from fedsim.plugins import OneOf, Plugin, Settings
from fedsim.printable import describe_bad_seat, make_printable
from fedsim.resilience import Axis
from fedsim.role import Role
from fedsim.seeding import Rng, SeatRoot, derive_root, draw_fresh, simulate_root
from fedsim.threat import AttackConfig, Defence, Site, Trial, Wrapper

Saved = tuple[Mapping[str, Tensor], Mapping[str, Any]]
"""What a seat saved: its tensors and its sidecar."""


@dataclass(frozen=True)
class NewRows:
    """Where rows to predict lie.

    Attributes:
        path: a file with the columns of all parties; "": each seat has its own.
        files: by seat, its own file.
    """

    path: str = ""
    files: Mapping[RoleId, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Secrets:
    """What a seat brings itself, and no file of the experiment says.

    Attributes:
        own: known to this seat alone; with fresh bytes its noise and its initial weights follow from it. None in simulations,
            where they follow from the seed.
        ids: the key that ids are hashed with, the same at every seat; None in simulations, as above.
        fresh: random bytes that were drawn for the run that goes on; None: they are drawn when it begins.

    Raises:
        ConfigError: one file serves as both: every seat knows the key of ids, and nobody else may know the secret.
    """

    own: bytes | None = field(default=None, repr=False)
    ids: bytes | None = field(default=None, repr=False)
    fresh: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.own is not None and self.own == self.ids:
            raise ConfigError(
                "the seat's secret is the key that ids are hashed with, which every seat knows; expected a secret of the "
                "seat's own: fedsim keys makes both"
            )

    def root(self, file_digest: str, seed: int, role: RoleId, fresh: bytes | None = None) -> SeatRoot:
        """Derive the root of the seat's private draws.

        Args:
            file_digest: that of the variant that is played.
            seed: the public seed, from which everything follows in a simulation.
            role: the seat.
            fresh: the bytes of the run that goes on; None: those of `fresh`, or else new ones.
        """
        if self.own is None:
            return simulate_root(seed, role)
        return derive_root(self.own, file_digest, role, fresh or self.fresh or draw_fresh())


@dataclass(frozen=True)
class Seat:
    """A place for one role.

    Attributes:
        build: makes the role, from the scenario's public node and the seat's secret one; it loads this seat's data.
        truths: what an attack can be aimed at here: ``features``, ``labels``.
        knows: facts an attacker at this seat has without being told.
        discloses: facts that can be asked of this seat as a victim.
        meet: settles with the other seats what has to be known before any is built, and returns the seat to build; None if
            there is nothing to settle. Its second argument is the key that ids are hashed with.
        told: facts that the scenario has told to an attacker at this seat, before the training.
        trains: whether it has a part in checkpoints; one that training never changes has none, and is played from its start.
    """

    build: Callable[[Rng, Rng], Role]
    truths: frozenset[str] = frozenset()
    knows: frozenset[str] = frozenset()
    discloses: frozenset[str] = frozenset()
    meet: Callable[[Net, bytes], Awaitable[Seat]] | None = None
    told: tuple[str, ...] = ()
    trains: bool = True


class LinkConfig(Settings):
    """Stages on a link; ``*`` stands for every seat or every kind."""

    frm: RoleId = Field("*", alias="from", description="the sending seat, or '*'")
    to: RoleId = Field("*", description="the receiving seat, or '*'")
    message: str = Field("*", description="the kind of message, or '*'")
    sender: tuple[Annotated[Defence, OneOf("defences")], ...] = Field((), description="stages at the sending seat")
    receiver: tuple[Annotated[Defence, OneOf("defences")], ...] = Field((), description="stages at the receiving seat")

    def joins(self, frm: RoleId, to: RoleId) -> bool:
        """Whether this entry lies on the link ``frm`` -> ``to``."""
        return self.frm in ("*", frm) and self.to in ("*", to)

    def stages(self, defences: Iterable[Defence], flowing: Iterable[str]) -> list[Stage[Any]]:
        """The stages of ``self.sender`` or ``self.receiver``, restricted to this entry's kinds of message.

        ``*`` stands for the kinds that flow in the scenario: what is granted, claimed and judged is no part of it.
        """
        kinds = [kind for kind in flowing if self.message in ("*", kind)]
        return [only(kinds, defence.stage()) for defence in defences]


class Missing(Settings):
    """What the hub does when a party's message does not come in time; a party that is gone for good ends the run."""

    policy: Literal["error", "wait", "drop", "impute"] = Field(
        "error",
        description="error: the run ends | wait: on, with a notice | drop: this step without the party | impute: with the "
        "mean of what it has sent so far",
    )
    after: float = Field(30.0, gt=0, description="seconds after which a message is missing")
    only: tuple[RoleId, ...] = Field((), description="parties that it is for; default: all")


@dataclass(frozen=True)
class Aim:
    """One attack at one victim: what a trial with victim ``*`` falls into."""

    number: int
    attack: AttackConfig
    seat: RoleId
    victim: RoleId
    knows: tuple[str, ...]
    metric: str


@dataclass(frozen=True)
class Plan:
    """A scenario, ready to be played.

    Attributes:
        hub: the seat with the top model and the labels.
        seats: by role, in roster order.
        flows: every kind of message on every link.
        links: the stages that the file puts on links.
        wrappers: by role, what the file puts around the seat, innermost first.
        aims: the trials, one victim each.
    """

    hub: RoleId
    seats: Mapping[RoleId, Seat]
    flows: tuple[Flow, ...]
    links: tuple[LinkConfig, ...] = ()
    wrappers: Mapping[RoleId, tuple[Wrapper, ...]] = field(default_factory=dict)
    aims: tuple[Aim, ...] = ()

    @property
    def roster(self) -> tuple[RoleId, ...]:
        """Every seat, in order."""
        return tuple(self.seats)

    def carries(self, link: LinkConfig) -> bool:
        """Whether anything flows where ``link`` lies."""
        return any(link.joins(f.frm, f.to) and link.message in ("*", f.kind) for f in self.flows)

    def kinds_between(self, one: RoleId, other: RoleId) -> frozenset[str]:
        """The kinds of message on the link between two seats, in either direction."""
        return self._links.get(one, {}).get(other, frozenset())

    def neighbours(self, role: RoleId) -> tuple[RoleId, ...]:
        """The seats that a seat exchanges messages with, in roster order."""
        there = self._links.get(role, {})
        return tuple(there) if len(there) < 2 else tuple(other for other in self.seats if other in there)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Every kind of message that flows."""
        return frozenset(flow.kind for flow in self.flows)

    @cached_property
    def _links(self) -> Mapping[RoleId, Mapping[RoleId, frozenset[str]]]:
        """By seat and by seat, the kinds of message between them, in either direction."""
        found: dict[RoleId, dict[RoleId, set[str]]] = {}
        for flow in self.flows:
            for one, other in ((flow.frm, flow.to), (flow.to, flow.frm)):
                found.setdefault(one, {}).setdefault(other, set()).add(flow.kind)
        return {one: {other: frozenset(kinds) for other, kinds in there.items()} for one, there in found.items()}

    @cached_property
    def aim_numbers(self) -> Mapping[tuple[int, RoleId, RoleId], int]:
        """The number of each aim among all, by the trial, the seat and the victim."""
        return {(aim.number, aim.seat, aim.victim): i for i, aim in enumerate(self.aims)}

    @cached_property
    def aims_by_seat(self) -> Mapping[RoleId, Sequence[tuple[int, Aim]]]:
        """By seat, the aims that it has a part in, as attacker or victim, each with its number among all."""
        found: dict[RoleId, list[tuple[int, Aim]]] = {}
        for numbered in enumerate(self.aims):
            for role in dict.fromkeys((numbered[1].seat, numbered[1].victim)):
                found.setdefault(role, []).append(numbered)
        return found


class Scenario(Plugin, ABC):
    """The settings of a scenario; one subclass a file or folder in ``scenarios``.

    Class attributes:
        resumes: whether its roles take checkpoints (`fedsim.vfl.cuts`), so that a run can be taken up again.
        misses: whether its hub follows the file's policy for parties whose messages are missing (`fedsim.vfl.absence`).
        uncarded: why no model card can be made of its runs; empty: one can.
    """

    resumes: ClassVar[bool] = False
    misses: ClassVar[bool] = False
    uncarded: ClassVar[str] = "it trains no federation with one model"

    @abstractmethod
    def plan(self) -> Plan:
        """Seats and flows."""

    def training_steps(self) -> int | None:
        """How many training steps an arm takes; None: not known beforehand, or nothing is trained step by step."""
        return None

    def count_steps_per_epoch(self) -> int | None:
        """How many training steps take each training row once; None: not known, or rows are not drawn like this.

        Raises:
            DataError: the data cannot be read.
        """
        return None

    def data_digest(self) -> str:
        """SHA-256 of the files the rows come from, as far as this process can read them; empty if they come with a package."""
        return ""

    def task_digest(self) -> str:
        """SHA-256 of what held-out rows and their labels follow from: data, without what only changes the training."""
        settings = self.model_dump(mode="json", context={"experiment": True}).get("data") or {}
        of_training: frozenset[str] = getattr(getattr(self, "data", None), "of_training", frozenset())
        scored = {name: value for name, value in settings.items() if name not in of_training}
        text = json.dumps([scored, self.data_digest()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def at(self, role: RoleId, path: str) -> Scenario:
        """The same experiment, in which one seat has its data in another file.

        Raises:
            InputError: this kind of scenario, or its kind of data, reads no file.
        """
        raise ConfigError(f"a scenario of kind '{self.kind()}' reads no data that could lie at '{path}'")

    def away(self) -> Mapping[RoleId, str]:
        """By seat, the table of its own that this machine does not have; in a deployment each seat has only its own."""
        return {}

    def look(self, role: RoleId) -> None:
        """Look at the table that a seat has to itself, if there is one; DataError if it cannot be used."""

    def predictor(self, rows: NewRows, saved: Mapping[RoleId, Saved]) -> Plan:
        """The plan in which the trained federation predicts new rows.

        The hub's role then has the ``probabilities`` (n, C) among its tensors; in its sidecar ``classes``, ``ids`` of the rows
        where they were matched by them, and ``scores`` by metric over the ``labelled`` rows, if there are any.

        Raises:
            ConfigError: this kind of scenario trains nothing that predicts, or a seat does not exist.
            DataError: the new rows cannot be used.
        """
        raise ConfigError(f"a scenario of kind '{self.kind()}' trains nothing that predicts")

    def appraised(self, run: str, arm: str, by: Sequence[str]) -> Scenario:
        """The same federation as one arm of a run has trained it, asked for everything that a model card says.

        ``by`` are columns that tell groups of people apart; without any those of the scenario.

        Raises:
            ConfigError: this kind of scenario has nothing to appraise.
        """
        raise ConfigError(f"a scenario of kind '{self.kind()}' has no model card: {self.uncarded}")

    def retrained(self) -> tuple[Scenario, Sequence[tuple[Axis, float, RoleId, Wrapper]]]:
        """What a model card tries that takes a training of its own: the scenario to train, and each wrapper at its seat.

        With each wrapper stand its axis and its level there.
        """
        raise ConfigError(f"a scenario of kind '{self.kind()}' has no model card: {self.uncarded}")


def complete(
    plan: Plan, links: Sequence[LinkConfig], wrappers: Mapping[RoleId, tuple[Wrapper, ...]], trials: Sequence[Trial]
) -> Plan:
    """The plan with what the file puts on links, around seats and at seats.

    Raises:
        ConfigError: an entry names a seat, a link or a kind of message that does not exist, or a seat has a name that no file
            can have.
        ThreatModelError: a trial's attack, or a wrapper, cannot run here.
    """
    _check_seat_names(plan)
    for role in wrappers:
        _check_seat(plan, role, "seats")
    plan = replace(plan, flows=(*plan.flows, *_more_flows(plan, wrappers)))
    for i, link in enumerate(links):
        _check_link(plan, link, f"links.{i}")
    aims = tuple(aim for i, trial in enumerate(trials) for aim in _aims(plan, trial, i))
    return replace(plan, links=tuple(links), wrappers=wrappers, aims=aims)


def _more_flows(plan: Plan, wrappers: Mapping[RoleId, tuple[Wrapper, ...]]) -> Iterator[Flow]:
    """What flows because of wrappers, each of which is asked whether it can act where it stands."""
    told = {role: seat.told for role, seat in plan.seats.items()}
    for role, around in wrappers.items():
        site = Site(role, plan.hub, plan.flows, told, wrappers)
        for i, wrapper in enumerate(around):
            try:
                yield from wrapper.flows(site)
            except InputError as error:
                raise type(error)(f"seats.{role}.{i}: {wrapper.kind()}: {error}") from error


def _check_seat_names(plan: Plan) -> None:
    """Refuse names of seats that would lead out of the folders that are named after them, or that look like each other."""
    looks: dict[str, RoleId] = {}
    for role in plan.seats:
        if reason := describe_bad_seat(role):
            raise ConfigError(
                f"scenario: a seat cannot be named '{make_printable(role):.80}': {reason}; expected letters, digits, '-', '_', "
                "'.' and spaces"
            )
        if (twin := looks.setdefault(unicodedata.normalize("NFC", role), role)) != role:
            raise ConfigError(f"scenario: seats '{twin}' and '{role}' look the same: give them different names")


def _check_seat(plan: Plan, role: RoleId, where: str) -> None:
    if role not in plan.seats:
        raise ConfigError(f"{where}: no seat '{role}'{suggest(role, plan.seats)}")


def _check_link(plan: Plan, link: LinkConfig, where: str) -> None:
    for end, role in (("from", link.frm), ("to", link.to)):
        if role != "*":
            _check_seat(plan, role, f"{where}.{end}")
    if link.message != "*" and link.message not in Message.kinds:
        raise ConfigError(f"{where}.message: no kind of message '{link.message}'{suggest(link.message, Message.kinds)}")
    if not plan.carries(link):
        kinds = sorted({f"{f.kind} {f.frm} -> {f.to}" for f in plan.flows})
        raise ConfigError(f"{where}: nothing flows there; in this scenario: {', '.join(kinds)}")


def _aims(plan: Plan, trial: Trial, number: int) -> list[Aim]:
    where, attack = f"trials.{number}", trial.attack
    _check_seat(plan, trial.seat, f"{where}.seat")
    if trial.victim != "*":
        _check_seat(plan, trial.victim, f"{where}.victim")
    _check_fact_names(plan, trial, where)
    if missing := [name for name in attack.needs if name not in trial.knows]:
        raise ThreatModelError(
            f"{where}: attack '{attack.kind()}' needs to know {', '.join(missing)}; granted: "
            f"{', '.join(trial.knows) or 'nothing'}"
        )
    metric = trial.metric or attack.metrics[0]
    if metric not in attack.metrics:
        raise ConfigError(
            f"{where}.metric: '{metric}' does not suit '{attack.kind()}'{suggest(metric, attack.metrics)}"
        )
    victims = [
        role
        for role, seat in plan.seats.items()
        if role != trial.seat
        and trial.victim in ("*", role)
        and set(attack.sees) <= plan.kinds_between(trial.seat, role)
        and attack.about in seat.truths
    ]
    if not victims:
        raise ThreatModelError(_no_victim(plan, trial, where))
    for victim in victims:
        _check_knowledge(plan, trial, victim, where)
    return [Aim(number, attack, trial.seat, victim, trial.knows, metric) for victim in victims]


def _no_victim(plan: Plan, trial: Trial, where: str) -> str:
    attack = trial.attack
    kinds = sorted({k for role in plan.seats for k in plan.kinds_between(trial.seat, role)})
    return (
        f"{where}: attack '{attack.kind()}' at {trial.seat} has no victim here: it must see {', '.join(attack.sees)} "
        f"of a seat that holds {attack.about}; what passes {trial.seat} in this exchange: {', '.join(kinds) or 'nothing'}"
    )


def _check_fact_names(plan: Plan, trial: Trial, where: str) -> None:
    """Refuse facts that no seat knows or discloses to this attacker, before anything else is said of its knowledge."""
    own, victims = plan.seats[trial.seat].knows, plan.seats if trial.victim == "*" else (trial.victim,)
    known = own.union(*(plan.seats[victim].discloses for victim in victims if victim != trial.seat))
    if unknown := [name for name in trial.knows if name not in known | set(trial.attack.needs)]:
        said = [f"nobody can grant '{n}'{suggest(n, known)}".partition(" allowed: ") for n in unknown]
        names = "; ".join(begin.removesuffix(";") for begin, _, _ in said)
        raise ThreatModelError(f"{where}.knows: {names}{'' if names.endswith('?') else ';'} allowed: {said[0][2]}")


def _check_knowledge(plan: Plan, trial: Trial, victim: RoleId, where: str) -> None:
    possible = plan.seats[trial.seat].knows | plan.seats[victim].discloses
    for name in trial.knows:
        if name not in possible:
            raise ThreatModelError(f"{where}.knows: nobody can grant '{name}'{suggest(name, possible)}")
