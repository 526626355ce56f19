"""Gradient matching wins on one row, loses to the size of the batch, and unmixing gives every row back to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsim.config import ScenarioFile, validate
from fedsim.errors import ThreatModelError
from fedsim.metrics import psnr
from fedsim.outcome import Finding
from fedsim.runtime.local import memory, play_all
from fedsim.scenarios.attacks._unmixing import apart, inputs, unmixing
from fedsim.scenarios.attacks.idlg import Idlg
from fedsim.scenarios.attacks.unmix import Unmix
from fedsim.seeding import Rng, simulated_secret
from fedsim.threat import Fact, Knowledge

TABLE = {"kind": "synthetic", "count": 40, "features": 12, "informative": 8, "test": 16}  # 24 training rows
DIGITS = {"kind": "mnist5k", "rows": 44, "test": 16}
LINEAR, MLP = {"kind": "linear"}, {"kind": "mlp", "hidden": [16]}
CNN = {"kind": "cafe_cnn", "channels": [16, 32], "units": 32}
BLOCKS = {"a": "0:14, 0:14", "b": "0:14, 14:28", "c": "14:28, 0:28"}
QUARTERS = {"data": DIGITS, "parties": {name: {"columns": block} for name, block in BLOCKS.items()}, "bottom": CNN}
KNOWS = ("rows", "bottom")
KINDS = ("dlg", "idlg", "cosine", "sapag")


def leak(
    *attacks: Mapping[str, Any], rounds: int = 4, frozen: bool = True, knows: Sequence[str] = KNOWS, **settings: Any
) -> ScenarioFile:
    """A federation with a curious server that aims at its party a."""
    scenario = {
        "kind": "leakage",
        "exchange": "shared",
        "data": TABLE,
        "parties": {"a": {"columns": "0:12"}},
        "bottom": LINEAR,
        "embedding": 12,
        "batch": 1,
        "sampling": "uniform",
        "steps": rounds,
        "evaluate": 1000,
        **({"window": {"from": 0, "rounds": rounds}} if frozen else {}),
        **settings,
    }
    trials = [{"attack": attack, "seat": "server", "victim": "a", "knows": knows} for attack in attacks]
    return validate({"name": "test", "seed": 3, "scenario": scenario, "trials": trials}, "test", {})


def attacked(file: ScenarioFile) -> list[Finding]:
    reports = asyncio.run(play_all(file, memory(file.plan())))
    return next(report.findings for report in reports if report.role == "server")


def truth(file: ScenarioFile, finding: Finding) -> Tensor:
    """The rows that a claim is about, as they are."""
    party: Any = file.plan().seats["a"].build(Rng.root(file.seed), Rng.secret(simulated_secret(file.seed, "a")))
    rows: Tensor = party.bottom.features["train"][finding.claim.rows]
    return rows


def level(file: ScenarioFile, finding: Finding, cap: float = 60.0) -> float:
    """Median over the claimed rows, dB."""
    true = truth(file, finding)
    return float(psnr(true, finding.claim.values, float(true.max() - true.min()), cap).median())


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_through_a_square_linear_bottom_is_read_off(kind: str) -> None:
    file = leak({"kind": kind, "batches": 3, "iterations": 800}, rounds=3)
    (finding,) = attacked(file)
    assert level(file, finding, cap=1000.0) > (100.0 if kind != "cosine" else 60.0)  # signed steps end at lr / 1000
    assert float(finding.claim.notes["mean residual"]) < 1e-6
    assert len(finding.claim.rows) == finding.claim.notes["rows"] == finding.claim.notes["batches"]


def test_the_order_of_the_rows_in_a_batch_is_identified() -> None:
    # behind a linear top with two classes the gradients of all rows are parallel, and only a sum of rows would be
    file = leak({"kind": "dlg", "batches": 2, "iterations": 2000}, rounds=2, batch=2, top={"kind": "mlp"})
    (finding,) = attacked(file)
    assert level(file, finding) > 40.0


def test_embeddings_help_where_they_are_matched() -> None:
    arms = [{"kind": "dlg", "batches": 1, "iterations": 300, "embeddings": on} for on in (False, True)]
    file = leak(*arms, rounds=1, batch=20)
    without, matched = attacked(file)
    assert level(file, matched) > level(file, without) + 5.0


def test_one_digit_comes_back_through_two_convolutions() -> None:
    file = leak({"kind": "dlg", "batches": 6}, rounds=6, **QUARTERS)
    (finding,) = attacked(file)
    assert level(file, finding) > 40.0


def test_for_one_row_idlg_finds_what_dlg_finds_without_seeing_the_embeddings_gradient() -> None:
    file = leak({"kind": "dlg", "batches": 3}, {"kind": "idlg", "batches": 3}, rounds=3, bottom=MLP)
    dlg, idlg = attacked(file)
    assert "Gradient" not in Idlg.sees
    assert torch.allclose(dlg.claim.values, idlg.claim.values, atol=1e-3)


def test_large_batches_stop_gradient_matching_but_neither_cafe_nor_unmix() -> None:
    found: dict[int, list[float]] = {}
    for batch in (10, 40):
        arms: list[dict[str, Any]] = [{"kind": "dlg", "batches": 1, "iterations": 300}]
        arms += [{"kind": "cafe"}, {"kind": "unmix"}]
        file = leak(*arms, rounds=90, batch=batch, **QUARTERS)
        findings = attacked(file)
        assert findings[1].claim.notes["rank"] == findings[2].claim.notes["rank"] == 44
        found[batch] = [level(file, finding) for finding in findings]
    for batch, most in ((10, 25.0), (40, 15.0)):
        dlg, *exact = found[batch]
        assert dlg < most
        assert min(exact) > dlg + 20.0
    assert found[40][0] < found[10][0]


@pytest.mark.parametrize("bottom", [LINEAR, MLP], ids=["linear", "mlp"])
@pytest.mark.parametrize("batch", [7, 23])
def test_on_exact_gradients_unmix_and_cafe_agree(bottom: dict[str, Any], batch: int) -> None:
    file = leak({"kind": "cafe"}, {"kind": "unmix"}, rounds=60, batch=batch, bottom=bottom)
    cafe, unmix = attacked(file)
    assert torch.equal(cafe.claim.rows, unmix.claim.rows)
    assert torch.allclose(cafe.claim.values, unmix.claim.values, rtol=1e-3, atol=1e-4)
    assert level(file, unmix) == 60.0
    assert unmix.claim.notes["regime"] == "frozen"


def test_unmixed_gradients_can_be_matched_as_batches_of_one() -> None:
    file = leak({"kind": "unmix", "matching": "gradients"}, rounds=40, batch=12)
    (finding,) = attacked(file)
    assert finding.claim.notes["rank"] == 24
    assert level(file, finding) == 60.0


def test_unmix_waits_for_the_window() -> None:
    window = {"from": 5, "rounds": 40}
    fast = {"kind": "adam", "lr": 0.05}
    file = leak({"kind": "unmix"}, rounds=50, frozen=False, batch=12, window=window, optimiser=fast)
    (finding,) = attacked(file)
    assert 40 <= int(finding.claim.notes["rounds"]) <= 41
    assert level(file, finding) > 55.0


def test_models_that_move_defeat_unmix_and_it_says_so() -> None:
    file = leak({"kind": "unmix"}, rounds=40, frozen=False, batch=12, optimiser={"kind": "adam", "lr": 0.05})
    (finding,) = attacked(file)
    assert finding.claim.notes["regime"] == "training"
    assert level(file, finding) < 30.0


def test_a_linear_layer_tells_its_input_even_without_a_bias() -> None:
    generator = torch.Generator().manual_seed(0)
    h, v = torch.rand((6, 9), generator=generator).double(), torch.randn((6, 4), generator=generator).double()
    batches = [torch.randperm(6, generator=generator)[:3] for _ in range(12)]
    weight = torch.einsum("no,ni->noi", v, h)
    inverse, rank = unmixing(batches, torch.arange(6))
    assert rank == 6
    single = apart(inverse, [weight[rows].mean(dim=0) for rows in batches])
    assert torch.allclose(single, weight, atol=1e-10)
    assert torch.allclose(inputs(single, v)[0], h, atol=1e-9)
    direction, alive = inputs(single, None)
    assert torch.allclose(direction, h / h.norm(dim=1, keepdim=True), atol=1e-9)
    assert bool(alive.all())


def test_the_same_seed_gives_the_same_claim() -> None:
    arm = {"kind": "dlg", "batches": 2, "iterations": 20}
    (one,), (other,) = (attacked(leak(arm, batch=5, bottom=MLP)) for _ in range(2))
    assert torch.equal(one.claim.values, other.claim.values)
    assert one.claim.notes == other.claim.notes


@pytest.mark.parametrize("missing", KNOWS)
@pytest.mark.parametrize("kind", [*KINDS, "unmix"])
def test_without_a_fact_that_it_needs_it_is_refused(kind: str, missing: str) -> None:
    granted = [name for name in KNOWS if name != missing]
    with pytest.raises(ThreatModelError, match=f"'{kind}' needs to know {missing}; granted: {granted[0]}"):
        leak({"kind": kind}, knows=granted).plan()


def test_bottoms_that_do_not_suit_are_refused() -> None:
    parameters = {"0.weight": torch.zeros(2, 3), "0.bias": torch.zeros(2)}
    relu = {"kind": "linear", "activation": "relu"}
    fact = Fact({"model": relu, "shape": [3], "embedding": 2}, parameters)
    granted = Knowledge({"rows": {0: torch.arange(3)}, "bottom": fact})
    with pytest.raises(ThreatModelError, match="idlg needs a bottom that ends in a fully connected layer"):
        Idlg().attack().init(granted, Rng.root(0))
    pure = Unmix().attack()
    with pytest.raises(ThreatModelError, match="saw no"):
        pure.claim(pure.init(granted, Rng.root(0)), lambda done: None)
