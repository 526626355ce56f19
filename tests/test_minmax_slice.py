"""A party that moves its own slice: more of the image is more power; what is not known costs; training against it helps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from small import small
from torch import Tensor
from torch.nn import functional

from fedsim.config import ScenarioFile, validate
from fedsim.errors import ConfigError, ProtocolError
from fedsim.message import RoleId
from fedsim.minmax.balls import Ball
from fedsim.minmax.guard import Guard
from fedsim.models.linear import Linear
from fedsim.outcome import SeatReport
from fedsim.parties.slices import Pushed, Siege, Standing
from fedsim.parties.slices.court import Court
from fedsim.parties.slices.training import GuardedTop, Perturbed
from fedsim.runtime.local import memory, play_all
from fedsim.runtime.processes import Processes
from fedsim.seeding import Rng
from fedsim.testing import check_runtime
from fedsim.vfl.network import Network
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Turn

BALLS = [{"norm": "linf", "eps": 0.4}]
SETTINGS: Mapping[str, Any] = {
    "kind": "minmax_slice",
    "data": {"kind": "sklearn", "name": "digits", "rows": 900, "test": 200},
    "bottom": {"kind": "mlp", "hidden": [32]},
    "embedding": 8,
    "steps": 250,
    "evaluate": 250,
}


def cut(columns: int) -> dict[str, Any]:
    """So many columns of eight for the insider."""
    blocks = {"insider": f"0:8, 3:{3 + columns}", "left": "0:8, 0:3", "right": f"0:8, {3 + columns}:8"}
    return {name: {"columns": block} for name, block in blocks.items()}


def file(columns: int = 2, siege: Mapping[str, Any] | None = None, **more: Any) -> ScenarioFile:
    told = {"seats": ["insider"], "balls": BALLS, "weighing": {"iterations": 20}, **(siege or {})}
    return validate({"scenario": {**SETTINGS, "parties": cut(columns), "siege": told, **more}, "seed": 3}, "slice", {})


def play(one: ScenarioFile) -> dict[RoleId, SeatReport]:
    return {report.role: report for report in asyncio.run(play_all(one, memory(one.plan())))}


def numbers(one: ScenarioFile) -> dict[str, float]:
    return dict(play(one)["server"].rows[-1]["test"])


def test_who_holds_more_of_the_image_fools_more() -> None:
    one, three = numbers(file(1)), numbers(file(3))
    assert 0.05 < one["fooled, minmax"] < three["fooled, minmax"] - 0.1
    assert one["union_accuracy"] == one["accuracy under linf 0.4"]
    assert one["union_accuracy"] == pytest.approx(one["accuracy"] * (1 - one["fooled, minmax"]), abs=0.01)


def test_not_to_know_what_the_others_hold_costs_success() -> None:
    known = numbers(file())
    unknown = numbers(file(siege={"over": "complements", "count": 4, "rules": ["average", "minmax"]}))
    assert 0.1 < unknown["fooled, minmax"] < known["fooled, minmax"]
    assert unknown["all domains, minmax"] < unknown["one domain, minmax"]
    assert unknown["all domains, average"] < unknown["one domain, average"]
    assert unknown["accuracy"] == known["accuracy"]  # the siege comes after the training


def test_whoever_is_missing_the_perturbation_is_to_hold() -> None:
    report = play(file(siege={"over": "dropout"}))["server"]
    found = report.rows[-1]["test"]
    assert 0 < found["all domains, minmax"] <= found["fooled, minmax"]
    assert report.figures[-1]["rows"] == ["insider, linf 0.4, minmax"]


def test_a_guarded_federation_bears_more_of_every_attack() -> None:
    siege = {"seats": [], "balls": [{"norm": "linf", "eps": 0.2}, {"norm": "l2", "eps": 0.8}]}
    guard = {"balls": [{"norm": "linf", "eps": 0.2, "step": 0.08}, {"norm": "l2", "eps": 0.8, "step": 0.3}], "steps": 3}
    plain, guarded = numbers(file(siege=siege)), numbers(file(siege=siege, guard=guard))
    assert guarded["union_accuracy"] > plain["union_accuracy"] + 0.15
    assert guarded["accuracy"] > plain["accuracy"] - 0.08
    for found in (plain, guarded):
        assert found["union_accuracy"] <= min(
            value for name, value in found.items() if name.startswith("accuracy under")
        )


def test_the_same_numbers_with_a_process_a_seat() -> None:
    check_runtime(Processes(), small("minmax_slice"))


def test_there_is_no_model_card_of_a_guarded_training() -> None:
    file().scenario.appraised("run", "arm", ())
    with pytest.raises(ConfigError, match="no model card of a guarded training"):
        file(guard={"balls": BALLS, "steps": 2}).scenario.appraised("run", "arm", ())


def test_what_a_guarded_batch_costs() -> None:
    """A rehearsal for every step; a malicious party sends a variant for every ball."""
    guard = {"balls": BALLS, "steps": 2, "parties": ["insider"]}
    few = {"steps": 5, "evaluate": 5, "batch": 20}
    plain, guarded = (play(file(**more, **few)) for more in ({}, {"guard": guard}))
    for role, variants in (("insider", 2), ("left", 1)):
        frames = [found[role].traffic.frames["server", "Embedding"] for found in (plain, guarded)]
        assert frames[1] - frames[0] == 5 * 2
        assert guarded[role].traffic.size["server", "Embedding"] > variants * 15 * 20 * 8 * 4


# the hub's half of guarded training


def top(weigh: Any, seed: int = 0) -> GuardedTop:
    with Rng.root(seed).as_global():
        network = Network(Linear().build((4,), 3), Rng.root(0))
    guard = Guard(balls=(Ball(norm="l2", eps=1), Ball(norm="linf", eps=1)), weigh=weigh, gamma=0.5)
    return GuardedTop(network, torch.tensor([0, 1, 2]), OptimiserConfig(kind="sgd", lr=0.1), guard, ["a", "b"])


def sent() -> dict[RoleId, Tensor]:
    """Of two parties, three rows clean and under two balls; of width 2."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(9, 2, generator=generator) for name in ("a", "b")}


def losses(role: GuardedTop, embeddings: Mapping[RoleId, Tensor]) -> Tensor:
    """By attack, one party at a time, (4, 3)."""
    a, b = (embeddings[name].split(3) for name in ("a", "b"))
    domains = [(a[1], b[0]), (a[2], b[0]), (a[0], b[1]), (a[0], b[2])]
    logits = [role.network.module(torch.cat(pair, dim=1)) for pair in domains]
    return torch.stack([functional.cross_entropy(each, role.labels, reduction="none") for each in logits])


@pytest.mark.parametrize("weigh", ["average", "max", "minmax"])
def test_the_hub_learns_from_the_weighed_losses(weigh: Any) -> None:
    role, embeddings = top(weigh), {name: z.requires_grad_() for name, z in sent().items()}
    every = losses(role, embeddings)
    loss = {
        "average": every.mean(),
        "max": every.amax(dim=0).mean(),
        "minmax": (role._guard.weights(every.detach()) * every).sum(dim=0).mean(),
    }[weigh]
    expected = torch.autograd.grad(loss, [*embeddings.values(), *role.network.live])
    before = [p.detach().clone() for p in role.network.live]
    found = role.step(Turn(0, 0, "train", torch.arange(3)), {name: z.detach() for name, z in embeddings.items()})
    assert role.loss == pytest.approx(loss.item())
    for g, name in zip(expected, embeddings, strict=False):
        assert found[name] == pytest.approx(g, abs=1e-6)
    for p, old, g in zip(role.network.live, before, expected[2:], strict=True):
        assert p.detach() == pytest.approx(old - 0.1 * g, abs=1e-6)


def test_in_a_rehearsal_every_attack_has_its_own_gradient_and_nothing_is_learned() -> None:
    role, embeddings = top("max"), {name: z.requires_grad_() for name, z in sent().items()}
    expected = torch.autograd.grad(losses(role, embeddings).sum() / 3, list(embeddings.values()))
    before = [p.detach().clone() for p in role.network.live]
    turn = Turn(0, 0, "train", torch.arange(3), hold=True, rehearsal=True)
    found = role.step(turn, {name: z.detach() for name, z in embeddings.items()})
    for g, name in zip(expected, embeddings, strict=True):
        assert found[name] == pytest.approx(g, abs=1e-6)
    assert all(torch.equal(p.detach(), old) for p, old in zip(role.network.live, before, strict=True))


def test_weights_lie_between_average_and_largest() -> None:
    every = torch.tensor([[0.1], [2.0], [1.9]])
    weights = {
        w: Guard(balls=(Ball(norm="l2", eps=1),), weigh=w, gamma=1.0).weights(every)[:, 0]
        for w in ("average", "max", "minmax")
    }
    assert weights["average"].tolist() == pytest.approx([1 / 3] * 3)
    assert weights["max"].tolist() == [0, 1, 0]
    assert weights["minmax"].tolist() == pytest.approx([0, 0.55, 0.45], abs=1e-6)


def test_a_party_climbs_inside_ball_and_box_and_starts_anew_with_each_batch() -> None:
    role = Perturbed([Ball(norm="linf", eps=0.2, step=0.15)], (torch.zeros(2), torch.ones(2)))
    rows = torch.tensor([[0.5, 0.95]])
    first, then = (Turn(i, 0, "train", torch.arange(1), hold=True, rehearsal=True) for i in range(2))
    assert role.around(rows, first).tolist() == [rows[0].tolist(), rows[0].tolist()]
    role.told(torch.tensor([[9.0, 9.0], [-1.0, 1.0]]), first)
    assert role.around(rows, then)[1].tolist() == pytest.approx([0.35, 1.0])
    role.told(torch.tensor([[9.0, 9.0], [-1.0, -1.0]]), then)
    assert role.around(rows, then)[1].tolist() == pytest.approx([0.3, 0.85])
    assert role.around(rows, Turn(9, 1, "train", torch.arange(1)))[1].tolist() == rows[0].tolist()


# the court


def court(over: str = "records", count: int = 2) -> Court:
    """Two parties with one number each; class 1 where their sum is above 0."""
    network = Network(Linear().build((2,), 2), Rng.root(0))
    network.load({"0.weight": torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), "0.bias": torch.zeros(2)})
    standing = {
        "a": Standing(0, torch.tensor([[1.0], [2.0], [-1.0], [-3.0]]), torch.tensor([[1.0], [-1.0], [2.0]])),
        "b": Standing(0, torch.tensor([[1.0], [-1.5], [-1.0], [2.0]]), torch.tensor([[1.0], [-1.0], [-3.0]])),
    }
    labels = torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 1])
    plan = Siege.model_validate({"balls": BALLS, "over": over, "count": count})
    return Court(network, labels, standing, plan, Rng.root(1))


def test_only_rows_that_are_right_are_attacked_and_margins_are_true() -> None:
    judge = court()
    assert judge.right.tolist() == [True, True, False]
    case = judge.open("a")
    assert case.rows.tolist() == [0, 1]
    felt = judge.feel(case, Pushed(0, torch.tensor([[-3.0], [-3.0]]), torch.arange(2), False))
    assert felt.margins.tolist() == [[-4.0, 8.0]]
    assert felt.g.tolist() == [[[2.0], [-2.0]]]
    wrong, fooled = judge.judge(case, Pushed(1, torch.tensor([[-3.0], [-3.0]]), torch.arange(2), True))
    assert (wrong.tolist(), fooled.tolist()) == ([[True, False]], [True, False])


def test_complements_are_records_of_the_class_beside_which_the_row_is_right() -> None:
    case = court("complements", 1).open("a")
    assert case.rows.tolist() == [0, 1]
    assert case.others[0, :, 1].tolist() == [
        1.0,
        -1.0,
    ]  # of class 1 beside a = 1 only b = 1 is right; of class 0, b = -1


def test_who_is_missing_is_stood_in_for_by_the_mean() -> None:
    case = court("dropout").open("a")
    assert case.others[:, 0, 1].tolist() == [1.0, pytest.approx(0.125)]


@pytest.mark.parametrize("z", [torch.zeros(2, 2), torch.zeros(3, 1)])
def test_what_does_not_fit_is_refused(z: Tensor) -> None:
    judge = court()
    with pytest.raises(ProtocolError, match=r"a pushes embeddings of shape \(\d, \d\), expected \(2, 1\)"):
        judge.feel(judge.open("a"), Pushed(0, z, torch.arange(2), False))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"siege": {"seats": ["insidr"]}}, r"scenario\.siege\.seats: no party 'insidr'; did you mean 'insider'"),
        ({"guard": {"balls": BALLS, "parties": ["x"]}}, r"scenario\.guard\.parties: no party 'x'"),
        ({"guard": {"balls": []}}, "balls"),
        ({"guard": {"balls": BALLS}, "augment": {"shift": 1}}, r"scenario\.augment: a guarded batch is the same"),
        ({"labels": "left"}, "labels"),
        ({"exchange": "shared"}, "exchange"),
    ],
)
def test_what_makes_no_siege_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        file(**change).plan()
