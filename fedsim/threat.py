"""Attackers and their victims: what an attacker may know, what it claims, and who judges.

An attack is three pure functions over what its tap saw plus the knowledge that the scenario grants. It makes a claim; the
*victim* judges the claim against the truth, which never leaves the victim's process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import Field
from torch import Tensor

from fedsim.channel import Stage
from fedsim.errors import ThreatModelError
from fedsim.message import Flow, Message, RoleId, Scalar
from fedsim.plugins import OneOf, Plugin, Settings
from fedsim.role import Role
from fedsim.seeding import Rng

S = TypeVar("S")
Tell = Callable[[float], None]
"""Called with the fraction of a long computation that is done, in [0, 1]."""


class Knowledge:
    """All that an attacker may use besides what its taps see. What it asks for is noted for the audit."""

    def __init__(self, granted: Mapping[str, Any]) -> None:
        self._granted = dict(granted)
        self.used: set[str] = set()

    @property
    def granted(self) -> tuple[str, ...]:
        """The names of the granted facts."""
        return tuple(self._granted)

    def need(self, name: str) -> Any:
        """A granted fact.

        Raises:
            ThreatModelError: it was not granted; lists what was.
        """
        if name not in self._granted:
            raise ThreatModelError(f"the attack needs '{name}'; granted: {', '.join(self._granted) or 'nothing'}")
        self.used.add(name)
        return self._granted[name]


@dataclass(frozen=True)
class Fact:
    """A disclosed fact: plain JSON (such as a model's configuration) and tensors (such as its parameters)."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Disclosure(Message):
    """A granted fact on its way from victim to attacker, so that it shows in the transcript. ``config`` is JSON."""

    about: str
    config: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class Claim(Message):
    """What an attacker says the truth is.

    Attributes:
        about: ``features`` or ``labels``.
        rows: which training rows, (n,) int64.
        values: features (n, *shape of a row); or a score a row for the rarer class, (n,), or for each class, (n, C).
        notes: diagnostics, for the report.
    """

    step: int = 0
    about: str
    rows: Tensor
    values: Tensor
    notes: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Verdict(Message):
    """What the victim says of a claim: numbers only.

    Attributes:
        scores: by metric.
        chance: by the same metrics, what a blind guess on the same data scores.
    """

    scores: Mapping[str, Scalar]
    chance: Mapping[str, Scalar]


@dataclass(frozen=True)
class Judgement:
    """A victim's finding. The exhibits, a few rows of truth beside claim, stay with the victim."""

    scores: Mapping[str, float]
    chance: Mapping[str, float]
    exhibits: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Victim(Role, Protocol):
    """A role that an attack can be aimed at; the truth stays with it."""

    def disclose(self, name: str) -> Fact:
        """One granted fact.

        Raises:
            ThreatModelError: there is no such fact here.
        """

    def judge(self, claim: Claim, rng: Rng) -> Judgement:
        """Hold a claim against the truth; ``rng`` is for the blind guesses.

        Raises:
            ThreatModelError: the claim is about something that this victim does not hold.
        """


@dataclass(frozen=True)
class Attack(Generic[S]):
    """Three pure functions.

    Attributes:
        init: the state before the first message, from granted knowledge and the attacker's own random node.
        observe: the state after one more message on the tapped link, in either direction.
        claim: what the attacker makes of it in the end; may take minutes, and tells how far it is.
    """

    init: Callable[[Knowledge, Rng], S]
    observe: Callable[[Message, S], S]
    claim: Callable[[S, Tell], Claim]


class AttackConfig(Plugin, ABC):
    """The settings of an attack; one subclass a file in ``scenarios/attacks``.

    Class attributes:
        about: what it claims to recover.
        needs: the knowledge without which it cannot run.
        sees: the kinds of message that must pass the attacked link.
        metrics: the victim's metrics that suit it, the default first.
    """

    about: ClassVar[Literal["features", "labels"]]
    needs: ClassVar[tuple[str, ...]] = ()
    sees: ClassVar[tuple[str, ...]]
    metrics: ClassVar[tuple[str, ...]]

    @abstractmethod
    def attack(self) -> Attack[Any]:
        """Build the attack from these settings."""


class Defence(Plugin, ABC):
    """The settings of a defence; one subclass a file in ``scenarios/defences``."""

    @abstractmethod
    def stage(self) -> Stage[Any]:
        """Build the stage from these settings."""


@dataclass(frozen=True)
class Site:
    """Where a wrapper stands, and what of the federation the file says.

    Attributes:
        seat: the seat it is around.
        flows: what flows in the scenario without wrappers.
        told: by seat, in roster order, the facts that an attacker there is told before the training.
        wrappers: all that the file puts around seats.
    """

    seat: RoleId
    hub: RoleId
    flows: tuple[Flow, ...]
    told: Mapping[RoleId, tuple[str, ...]]
    wrappers: Mapping[RoleId, tuple[Wrapper, ...]]


class Wrapper(Plugin, ABC):
    """What may be wrapped around a seat: faults, corrupted features, poisoned records; one a file in ``parties/wrappers``.

    Class attributes:
        resumes: whether what it does follows, after a checkpoint, from playing what comes before the training once more and
            from the state of networks and the strikes on them.
    """

    resumes: ClassVar[bool] = False

    def flows(self, site: Site) -> Sequence[Flow]:
        """What flows because it stands there; this much is known before anything is built.

        Raises:
            ConfigError: its settings do not fit the rest of the file.
            ThreatModelError: it cannot act at this seat, or not with what is told there.
        """
        return ()

    @abstractmethod
    def wrap(self, role: Role, rng: Rng) -> Role:
        """The role that plays in the place of ``role``; ``rng`` is a child of the scenario's public seed."""


class Trial(Settings):
    """One attacker at one seat, against one victim or each of them."""

    attack: Annotated[AttackConfig, OneOf("attacks")]
    seat: RoleId = Field(description="who attacks: it sees what this seat sees")
    victim: str = Field("*", description="a seat, or '*': every seat the attack can be aimed at, one by one")
    knows: tuple[str, ...] = Field((), description="what the attacker is granted besides what it sees")
    metric: str = Field("", description="the score in the result table; default: the attack's first metric")
