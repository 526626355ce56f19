"""The attacker who knows the defence: order alone is enough, while models stand still."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.nn import functional

from fedsim.config import validate
from fedsim.errors import ThreatModelError
from fedsim.outcome import Finding
from fedsim.runtime.local import memory, play_all
from fedsim.scenarios.attacks._ranks import Round, fit
from fedsim.scenarios.attacks.adaptive_cafe import AdaptiveCafe
from fedsim.seeding import Rng
from fedsim.threat import Fact, Knowledge

RNG = Rng.root(3)
ADAPTIVE = {"kind": "adaptive_cafe", "fits": 20}
FAKE = {"kind": "fake_gradient", "sigma": 1.1}
CNN = {"kind": "cafe_cnn", "channels": [16, 32], "units": 32}
REST = ["0:14, 14:28", "14:28, 0:28"]


def attacked(
    attacks: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]] = (), frozen: bool = True, **bottom: Any
) -> list[Finding]:
    """One party with a quarter of 16 digits; 60 rounds of 4 rows, in which models stand still if ``frozen``."""
    scenario = {
        "kind": "leakage",
        "exchange": "shared",
        "data": {"kind": "mnist5k", "rows": 16, "test": 16, "drop": REST},
        "parties": {"a": {"columns": "0:14, 0:14"}},
        "bottom": {**CNN, **bottom},
        "embedding": 8,
        "batch": 4,
        "sampling": "uniform",
        "steps": 60,
        "evaluate": 1000,
        **({"window": {"from": 0, "rounds": 60}} if frozen else {}),
    }
    links = [{"from": "*", "to": "server", "message": "ParameterGradient", "sender": list(stages)}]
    trials = [{"attack": attack, "seat": "server", "knows": ["rows", "bottom"]} for attack in attacks]
    document = {"name": "test", "seed": 3, "scenario": scenario, "links": links, "trials": trials}
    file = validate(document, "test", {})
    reports = asyncio.run(play_all(file, memory(file.plan())))
    return next(report.findings for report in reports if report.role == "server")


def score(finding: Finding, metric: str = "correlation") -> float:
    return float(finding.verdict.scores[metric])


def test_directions_come_from_the_order_alone() -> None:
    h = torch.rand((10, 30), generator=RNG.child("h").torch())
    v = torch.randn((10, 20), generator=RNG.child("v").torch())
    generator = RNG.child("batches").torch()
    batches = [torch.randperm(10, generator=generator)[:3] for _ in range(40)]
    true = [torch.einsum("ni,nj->ij", v[rows], h[rows]) / 3 for rows in batches]
    plain, bent = (
        fit([Round(r, f(G)) for r, G in zip(batches, true, strict=True)], torch.arange(10), 20, lambda done: None)
        for f in (lambda G: G, lambda G: torch.tanh(G / 2) * 1e3 + 7)
    )
    assert float(functional.cosine_similarity(plain[0], h).mean()) > 0.99
    assert torch.equal(plain[0], bent[0])  # no monotone distortion makes a difference
    assert plain[1] < 0.1


def test_fakes_that_stop_cafe_do_not_stop_an_attacker_who_knows_them() -> None:
    cafe, cosine, adaptive = attacked([{"kind": "cafe"}, {"kind": "cafe", "matching": "cosine"}, ADAPTIVE], [FAKE])
    assert score(cafe, "psnr") < float(cafe.verdict.chance["psnr"]) + 2.0
    assert score(adaptive) > max(0.9, score(cosine) + 0.1)
    assert score(adaptive, "psnr") > float(adaptive.verdict.chance["psnr"]) + 8.0
    assert adaptive.claim.notes["regime"] == "frozen"


def test_it_needs_no_bias() -> None:
    (found,) = attacked([ADAPTIVE], [], bias=False)
    assert score(found) > 0.9
    with pytest.raises(ThreatModelError, match="has none, so step I has nothing to solve"):
        attacked([{"kind": "cafe"}], [], bias=False)


def test_models_that_move_leave_it_little() -> None:
    (moving,) = attacked([ADAPTIVE], [FAKE], frozen=False)
    assert moving.claim.notes["regime"] == "training"
    assert score(moving) < 0.7


@pytest.mark.parametrize("model", [{"kind": "linear"}, {"kind": "mlp", "hidden": [4]}], ids=["linear", "mlp"])
def test_a_bottom_that_starts_with_a_linear_layer_is_refused(model: dict[str, Any]) -> None:
    config = {"model": model, "shape": [3], "embedding": 2}
    names = ("0.weight", "0.bias") if model["kind"] == "linear" else ("0.weight", "0.bias", "2.weight", "2.bias")
    shapes = ((2, 3), (2,)) if model["kind"] == "linear" else ((4, 3), (4,), (2, 4), (2,))
    fact = Fact(config, {name: torch.zeros(shape) for name, shape in zip(names, shapes, strict=True)})
    with pytest.raises(ThreatModelError, match="layers before its first linear one"):
        AdaptiveCafe().attack().init(Knowledge({"rows": {0: torch.arange(3)}, "bottom": fact}), RNG)
