"""The attack kit passes an honest attack on both exchanges, and fails on each way of cheating or of being impure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from fedsim.errors import ConformanceError, ThreatModelError
from fedsim.message import Message
from fedsim.models.mlp import Mlp
from fedsim.seeding import Rng
from fedsim.testing import check_attack, record
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge, Tell
from fedsim.vfl.messages import Gradient


@dataclass(frozen=True)
class Seen:
    """The granted rows, and the norm of each row's gradient, by training row."""

    rows: dict[str, Tensor]
    norms: dict[str, Tensor]


def init(knowledge: Knowledge, rng: Rng) -> Seen:
    return Seen({str(step): rows for step, rows in knowledge.need("rows").items()}, {})


def observe(message: Message, state: Seen) -> Seen:
    if not isinstance(message, Gradient) or message.purpose != "train":
        return state
    rows = state.rows[str(message.step)]
    found = {str(int(row)): norm for row, norm in zip(rows, message.g.norm(dim=1), strict=True)}
    return replace(state, norms=state.norms | found)


def claim(state: Seen, tell: Tell) -> Claim:
    tell(0.5)
    rows = torch.tensor([int(row) for row in state.norms])
    return Claim(about="labels", rows=rows, values=torch.stack(list(state.norms.values())))


class Honest(AttackConfig):
    """Scores each row by the norm of its gradient."""

    about: ClassVar[Literal["features", "labels"]] = "labels"
    needs: ClassVar[tuple[str, ...]] = ("rows",)
    sees: ClassVar[tuple[str, ...]] = ("Gradient",)
    metrics: ClassVar[tuple[str, ...]] = ("auc",)

    def attack(self) -> Attack[Seen]:
        return Attack(init, observe, claim)


def test_an_honest_attack_passes_on_both_exchanges() -> None:
    check_attack(Honest())
    check_attack(Honest(), [record(exchange, Mlp(), (3,)) for exchange in ("split", "shared")])


class Peeks(Honest):
    """Takes what it was granted without asking."""

    def attack(self) -> Attack[Seen]:
        return Attack(lambda knowledge, rng: Seen(dict(knowledge._granted["rows"]), {}), observe, claim)


class AsksForMore(Honest):
    """Wants the labels, too, without saying so."""

    def attack(self) -> Attack[Seen]:
        def greedy(knowledge: Knowledge, rng: Rng) -> Seen:
            knowledge.need("labels")
            return init(knowledge, rng)

        return Attack(greedy, observe, claim)


class NeverAsks(Honest):
    """Says that it needs a model, and never looks at it."""

    needs: ClassVar[tuple[str, ...]] = ("rows", "bottom")


class Swallows(Honest):
    """Goes on without what it needs."""

    def attack(self) -> Attack[Seen]:
        def shrug(knowledge: Knowledge, rng: Rng) -> Seen:
            try:
                return init(knowledge, rng)
            except ThreatModelError:
                return Seen({}, {})

        return Attack(shrug, observe, claim)


class Meddles(Honest):
    """Writes to the message that it should only look at."""

    def attack(self) -> Attack[Seen]:
        def meddle(message: Message, state: Seen) -> Seen:
            after = observe(message, state)
            if isinstance(message, Gradient):
                message.g.zero_()
            return after

        return Attack(init, meddle, claim)


class Grows(Honest):
    """Writes to the state that it is given."""

    def attack(self) -> Attack[Seen]:
        def grow(message: Message, state: Seen) -> Seen:
            state.norms.update(observe(message, state).norms)
            return state

        return Attack(init, grow, claim)


class Counts(Honest):
    """Keeps a count outside its state."""

    def attack(self) -> Attack[Any]:
        count = itertools.count()
        return Attack(init, lambda message, state: replace(state, norms={"0": torch.tensor(float(next(count)))}), claim)


class Guesses(Honest):
    """Draws its claim from the global stream."""

    def attack(self) -> Attack[Seen]:
        return Attack(init, observe, lambda state, tell: replace(claim(state, tell), values=torch.rand(12)))


class ClaimsElse(Honest):
    """Claims something that it is not about."""

    def attack(self) -> Attack[Seen]:
        return Attack(init, observe, lambda state, tell: replace(claim(state, tell), about="features"))


class ClaimsTwice(Honest):
    """Names a row twice."""

    def attack(self) -> Attack[Seen]:
        def double(state: Seen, tell: Tell) -> Claim:
            once = claim(state, tell)
            return replace(once, rows=once.rows.clone().fill_(1))

        return Attack(init, observe, double)


class Boasts(Honest):
    """Is more than done."""

    def attack(self) -> Attack[Seen]:
        def boast(state: Seen, tell: Tell) -> Claim:
            tell(2.0)
            return claim(state, tell)

        return Attack(init, observe, boast)


class Shapeless(Honest):
    """Claims fewer values than rows."""

    def attack(self) -> Attack[Seen]:
        return Attack(init, observe, lambda state, tell: replace(claim(state, tell), values=torch.zeros(2)))


class Sightless(Honest):
    """Must see what no exchange carries."""

    sees: ClassVar[tuple[str, ...]] = ("Hello", "Gradient")


class Misspelt(Honest):
    """Must see what nobody defines."""

    sees: ClassVar[tuple[str, ...]] = ("Gradiant",)


class Picky(Honest):
    """Attacks nothing that it is shown."""

    def attack(self) -> Attack[Seen]:
        def refuse(knowledge: Knowledge, rng: Rng) -> Seen:
            init(knowledge, rng)
            raise ThreatModelError("only networks of one layer")

        return Attack(refuse, observe, claim)


class Mute(AttackConfig):
    """Declares nothing."""

    def attack(self) -> Attack[Seen]:
        return Attack(init, observe, claim)


class Undocumented(Honest):
    pass


BAD: list[tuple[Callable[[], AttackConfig], str]] = [
    (Peeks, "no business with Knowledge._granted"),
    (AsksForMore, "needs 'labels'; granted: rows"),
    (NeverAsks, "needs bottom, but never asks"),
    (Swallows, "can be armed without 'rows'"),
    (Meddles, "observe writes to the message"),
    (Grows, "observe writes to the state"),
    (Counts, "observe is not pure"),
    (Guesses, "two claims from the same state differ"),
    (ClaimsElse, "claims features, but is about labels"),
    (ClaimsTwice, "claims a row twice"),
    (Boasts, "progress outside"),
    (Shapeless, r"values \(2,\)"),
    (Sightless, "no recording has all it must see"),
    (Misspelt, "no kind of message"),
    (Picky, "refuses every recording: only networks of one layer"),
    (Mute, "class attributes about, sees, metrics are not set"),
    (Undocumented, "no docstring"),
]


@pytest.mark.parametrize(("make", "complaint"), BAD)
def test_the_kit_finds_an_attack_that(make: Callable[[], AttackConfig], complaint: str) -> None:
    with pytest.raises(ConformanceError, match=complaint):
        check_attack(make(), [record("split", Mlp(), (3,))])


def test_a_recording_holds_what_both_ends_of_the_link_see() -> None:
    split, shared = (record(exchange, Mlp(), (3,)) for exchange in ("split", "shared"))
    assert split.kinds == {"Rows", "Embedding", "Gradient"}
    assert shared.kinds == {"Rows", "Embedding", "Gradient", "Model", "ParameterGradient"}
    assert len(split.facts["labels"]) == 12
    first = next(m for m in split.messages if isinstance(m, Gradient))
    assert len(split.facts["rows"][0]) == len(first.g) == 4
    assert split.facts["bottom"].config["shape"] == [3]
    assert set(split.facts["bottom"].tensors) == {name for name, _ in Mlp().build((3,), 4).named_parameters()}


def test_recordings_are_the_same_each_time() -> None:
    one, other = (record("shared", Mlp(), (3,)).messages for _ in range(2))
    pairs = zip(one, other, strict=True)
    assert all(torch.equal(a.g, b.g) for a, b in pairs if isinstance(a, Gradient) and isinstance(b, Gradient))
