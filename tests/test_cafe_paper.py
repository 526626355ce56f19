"""CAFE as its paper has it: its optimisers, its single loop, and the gradient-matching term of its step III."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsim.config import ScenarioFile, validate
from fedsim.errors import ConfigError, ThreatModelError
from fedsim.models.linear import Linear
from fedsim.models.mlp import Mlp
from fedsim.outcome import Finding
from fedsim.runtime.local import memory, play_all
from fedsim.scenarios.attacks._descent import Descent, Moments, iterative
from fedsim.scenarios.attacks._objective import Objective, Whole, refine
from fedsim.scenarios.attacks._recover import Recovered, equations, exact, recover
from fedsim.scenarios.attacks._stream import Round, Stream
from fedsim.scenarios.attacks.cafe import Cafe
from fedsim.seeding import Rng
from fedsim.state import pack
from fedsim.testing.attacks import check_attack
from fedsim.testing.recording import record
from fedsim.threat import Attack, Claim, Fact, Knowledge
from fedsim.vfl.messages import Gradient, Model, ParameterGradient

TABLE = {"kind": "synthetic", "count": 40, "features": 12, "informative": 8, "test": 16}  # 24 training rows
MLP = {"kind": "mlp", "hidden": [16]}
ITERATIVE = {"kind": "cafe", "solver": "iterative", "v_lr": 0.05, "v_iterations": 3_000, "h_iterations": 1_000}
SINGLE = {"kind": "cafe", "solver": "iterative", "loop": "single", "v_lr": 0.05, "h_lr": 0.1, "x_lr": 0.1}


def leak(
    rounds: int,
    *attacks: Mapping[str, Any],
    frozen: bool = True,
    links: Sequence[Mapping[str, Any]] = (),
    **settings: Any,
) -> ScenarioFile:
    """A server that is curious about one party with a table."""
    scenario = {
        "kind": "leakage",
        "exchange": "shared",
        "data": TABLE,
        "parties": {"a": {"columns": "0:12"}},
        "bottom": {"kind": "linear"},
        "embedding": 8,
        "batch": 8,
        "sampling": "uniform",
        "steps": rounds,
        "evaluate": 10_000,
        **({"window": {"from": 0, "rounds": rounds}} if frozen else {}),
        **settings,
    }
    trials = [{"attack": attack, "seat": "server", "victim": "a", "knows": ["rows", "bottom"]} for attack in attacks]
    return validate({"name": "test", "seed": 3, "scenario": scenario, "trials": trials, "links": links}, "test", {})


def attacked(file: ScenarioFile) -> list[Finding]:
    reports = asyncio.run(play_all(file, memory(file.plan())))
    return next(report.findings for report in reports if report.role == "server")


def psnr(finding: Finding) -> float:
    return float(finding.verdict.scores["psnr"])


def beyond_chance(finding: Finding) -> float:
    return psnr(finding) - float(finding.verdict.chance["psnr"])


def solved(descent: Descent) -> tuple[float, Recovered, Recovered]:
    """The relative error of H by descent, and what it and least squares find of the same rounds."""
    generator = torch.Generator().manual_seed(1)
    h, v = torch.rand((20, 30), generator=generator), torch.randn((20, 12), generator=generator)
    stream = Stream(20, 8)
    for _ in range(60):
        rows = torch.randperm(20, generator=generator)[:6]
        stream = stream.add(Round(rows, v[rows].mean(dim=0), v[rows].T @ h[rows] / 6))
    given = equations(stream.settled())
    told: list[float] = []
    found = recover(given, iterative(descent, Rng.root(1), told.append))
    assert told == sorted(told)
    assert 0 <= told[0] < 0.5 < told[-1] <= 1
    return float((found.h - h).norm() / h.norm()), found, recover(given, exact)


def test_the_papers_optimisers_come_near_what_least_squares_finds_at_once() -> None:
    off, found, best = solved(Descent(0.03, 3_000, 1e-2, 1_000))
    assert off < 1e-4  # the exact solver: 1e-7
    assert (found.rank, found.dead) == (best.rank, best.dead) == (20, 0)
    short, *_ = solved(Descent(0.03, 500, 1e-2, 1_000))
    assert 1e-3 < short < 0.05


def test_a_run_with_the_iterative_solver_reads_the_table_nearly_as_well() -> None:
    exactly, nearly = attacked(leak(40, {"kind": "cafe"}, ITERATIVE))
    assert psnr(exactly) == 60.0
    assert 30.0 < psnr(nearly) < 60.0
    assert nearly.claim.notes["rank"] == exactly.claim.notes["rank"] == 24


@pytest.mark.parametrize("attack", [ITERATIVE, SINGLE], ids=["nested", "single"])
def test_a_rate_at_which_step_one_diverges_is_refused(attack: dict[str, Any]) -> None:
    with pytest.raises(ThreatModelError, match=r"v_lr: found 0\.125; with batches of 8 rows step I diverges at 1 / 8"):
        attacked(leak(40, {**attack, "v_lr": 0.125}))


def test_the_single_loop_reads_the_table_better_with_every_round() -> None:
    few, many = (attacked(leak(rounds, SINGLE))[0] for rounds in (60, 300))
    assert beyond_chance(few) < 6.0
    assert beyond_chance(many) > 15.0
    assert float(many.claim.notes["unexplained share"]) < 0.2 < float(few.claim.notes["unexplained share"])


def test_the_single_loop_needs_no_still_model() -> None:
    (finding,) = attacked(leak(300, SINGLE, frozen=False, optimiser={"kind": "sgd", "lr": 1e-4}))
    assert beyond_chance(finding) > 10.0


def test_moments_of_a_row_know_its_own_visits_only() -> None:
    at = torch.zeros(3, 2)
    moved, moments = Moments.of(at).step(at, torch.tensor([2]), torch.full((1, 2), 1e-9), 0.1)
    assert moved[2].tolist() == pytest.approx([-0.1, -0.1], rel=1e-2)
    moved, moments = moments.step(moved, torch.tensor([0, 2]), torch.full((2, 2), 1e-9), 0.1)
    assert moved[0].tolist() == pytest.approx([-0.1, -0.1], rel=1e-2)
    assert moved[2].tolist() == pytest.approx([-0.2, -0.2], rel=1e-2)
    assert moments.visits.tolist() == [1, 0, 2]
    assert at.eq(0).all()


def single_state(rounds: int) -> Any:
    generator = torch.Generator().manual_seed(4)
    parameters = {name: p.detach().clone() for name, p in Linear().build((30,), 12).named_parameters()}
    fact = Fact({"model": {"kind": "linear"}, "shape": [30], "embedding": 12}, parameters)
    batches = {step: torch.randperm(20, generator=generator)[:6].clone() for step in range(40)}
    attack: Attack[Any] = Cafe(solver="iterative", loop="single", alpha=0.1).attack()
    state = attack.init(Knowledge({"rows": batches, "bottom": fact}), Rng.root(1))
    for step in range(rounds):
        grads = {name: torch.randn(p.shape, generator=generator) for name, p in parameters.items()}
        for message in (
            Gradient(step, torch.randn((6, 12), generator=generator)),
            ParameterGradient(step, grads),
            Model(step, {name: p.clone() for name, p in parameters.items()}),
        ):
            state = attack.observe(message, state)
    return state


def test_the_state_of_the_single_loop_does_not_grow_with_the_rounds() -> None:
    few, many = (
        sum(tensor.untyped_storage().nbytes() for tensor in pack(single_state(count))[1].values()) for count in (2, 40)
    )
    assert few == many


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "iterative", "v_iterations": 50, "h_iterations": 50},
        {"solver": "iterative", "loop": "single"},
        {"solver": "iterative", "loop": "single", "alpha": 0.1, "labels": "optimised"},
        {"alpha": 0.1, "iterations": 3},
        {"alpha": 0.1, "iterations": 3, "labels": "optimised"},
    ],
    ids=str,
)
def test_each_variant_keeps_the_contract_of_attacks(settings: dict[str, Any]) -> None:
    check_attack(Cafe(**settings))


def refined(off: float, alpha: float, granted: bool = True) -> tuple[float, float]:
    """Relative errors of tabular rows before and after gradient matching, from h that are wrong by ``off``."""
    generator = torch.Generator().manual_seed(5)
    bottom = Mlp(hidden=(16,)).build((12,), 8)
    with torch.no_grad():
        for p in bottom.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / p.shape[-1] ** 0.5)
    bottom.requires_grad_(False)
    x, g = torch.randn((24, 12), generator=generator), torch.randn((24, 8), generator=generator)
    rounds = []
    for _ in range(8):
        rows = torch.randperm(24, generator=generator)[:8]
        parameters = {name: p.clone().requires_grad_(True) for name, p in bottom.named_parameters()}
        answer = (torch.func.functional_call(bottom, parameters, (x[rows],)) * g[rows] / 8).sum()
        grads = torch.autograd.grad(answer, list(parameters.values()))
        rounds.append(Whole(rows, dict(zip(parameters, grads, strict=True)), g[rows] / 8 if granted else None))
    h = x + off * torch.randn(x.shape, generator=generator)
    objective = Objective(alpha, 0.0, 1.0, 0.0, "l2", 1e-2)
    found, before, after = refine(h, h, rounds, bottom, "0", objective, 100, Rng.root(1), lambda done: None)
    assert (after < before) == (alpha > 0)
    return float((h - x).norm() / x.norm()), float((found - x).norm() / x.norm())


@pytest.mark.parametrize(("off", "alpha"), [(0.1, 1.0), (0.3, 1.0), (0.3, 10.0)])
def test_matching_gradients_brings_rows_nearer_whose_h_is_wrong(off: float, alpha: float) -> None:
    before, after = refined(off, alpha)
    assert after < 0.8 * before


def test_without_the_gradients_of_embeddings_it_gains_less() -> None:
    before, granted = refined(0.3, 1.0)
    _, looked_for = refined(0.3, 1.0, granted=False)
    assert granted < looked_for < before


def test_gradient_matching_leaves_rows_alone_that_are_right() -> None:
    alone, granted, optimised = attacked(
        leak(
            40,
            {"kind": "cafe"},
            {"kind": "cafe", "alpha": 0.1},
            {"kind": "cafe", "alpha": 0.1, "labels": "optimised"},
            bottom=MLP,
        )
    )
    assert all(int(finding.claim.notes["whole rounds"]) in range(3, 25) for finding in (granted, optimised))
    assert psnr(granted) == psnr(alone) == 60.0
    assert 30.0 < psnr(optimised) < 60.0  # g is unknown at the start, and rows move until it is found


def test_noise_on_what_is_sent_is_partly_undone_by_gradient_matching() -> None:
    noise = [{"kind": "gaussian_noise", "sigma": 0.3, "scale": "relative"}]
    links = [{"from": "*", "to": "server", "message": "ParameterGradient", "sender": noise}]
    alone, matched = attacked(leak(40, {"kind": "cafe"}, {"kind": "cafe", "alpha": 1.0}, bottom=MLP, links=links))
    assert psnr(matched) > psnr(alone) + 1.0


def test_without_a_still_model_there_is_nothing_to_match() -> None:
    (finding,) = attacked(leak(40, {"kind": "cafe", "alpha": 0.1}, frozen=False))
    assert finding.claim.notes["gradient matching"] == "none: models never stood still"


def test_with_no_gradients_of_embeddings_on_the_link_matching_is_refused() -> None:
    recording = record("shared", Linear(), (5,))
    attack: Attack[Any] = Cafe(alpha=0.1).attack()
    state = attack.init(Knowledge({name: recording.facts[name] for name in ("rows", "bottom")}), Rng.root(1))
    gradient = next(m for m in recording.messages if isinstance(m, ParameterGradient))
    with pytest.raises(ThreatModelError, match="labels: granted needs the gradients of embeddings, and none passed"):
        attack.observe(gradient, state)
    looks: Attack[Any] = Cafe(alpha=0.1, labels="optimised").attack()
    looks.observe(gradient, looks.init(Knowledge(dict(recording.facts)), Rng.root(1)))


def test_optimised_labels_need_a_bias_at_the_end() -> None:
    relu = {"kind": "linear", "activation": "relu"}
    with pytest.raises(ThreatModelError, match="ends in a fully connected layer with a bias; here, it ends in ReLU"):
        attacked(leak(40, {"kind": "cafe", "alpha": 0.1, "labels": "optimised"}, bottom=relu))


def test_the_single_loop_has_no_closed_form() -> None:
    with pytest.raises(ConfigError, match="found exact; loop single has no closed form and allows iterative only"):
        leak(40, {"kind": "cafe", "loop": "single"})


def silent(mute: Sequence[int], clamped: Sequence[int], gradients: bool) -> Claim:
    """Of rows 0 to 11 some get no gradient at the embedding, and some lose theirs on the way to the layer."""
    generator = torch.Generator().manual_seed(7)
    parameters = {name: p.detach().clone() for name, p in Linear().build((5,), 4).named_parameters()}
    fact = Fact({"model": {"kind": "linear"}, "shape": [5], "embedding": 4}, parameters)
    batches = {step: torch.randperm(12, generator=generator)[:4] for step in range(40)}
    g = torch.randn((12, 4), generator=generator)
    g[list(mute)] = 0
    v = g.clone()
    v[list(clamped)] = 0
    h = torch.rand((12, 5), generator=generator)
    attack: Attack[Any] = Cafe().attack()
    state = attack.init(Knowledge({"rows": batches, "bottom": fact}), Rng.root(1))
    for step, rows in batches.items():
        if gradients:
            state = attack.observe(Gradient(step, g[rows] / 4), state)
        sent: dict[str, Tensor] = {"0.weight": v[rows].T @ h[rows] / 4, "0.bias": v[rows].mean(dim=0)}
        state = attack.observe(ParameterGradient(step, sent), state)
        state = attack.observe(Model(step, parameters), state)
    claim: Claim = attack.claim(state, lambda done: None)
    return claim


def test_rows_without_gradient_are_told_apart_by_where_it_ends() -> None:
    notes = silent(mute=[3], clamped=[1, 8], gradients=True).notes
    assert notes["rows without gradient"] == 3
    assert notes["silent at the embedding"] == 1
    assert notes["clamped before the layer"] == 2
    blind = silent(mute=[3], clamped=[1, 8], gradients=False).notes
    assert blind["rows without gradient"] == 3
    assert "silent at the embedding" not in blind
