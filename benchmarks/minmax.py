"""What a min-max attack costs, and where its weights go: ``python benchmarks/minmax.py [PROFILE] [SEED]``.

PROFILE is one of ``scenarios/minmax.yaml`` (default: mnist). Trains the victims, or takes those that are kept; then, in this
one process: 50 iterations on 300 images of every model, timed; and for each image and model the smallest linf perturbation that
fools that model alone, by bisection, against the weight that the model has in the end: Spearman's rank correlation, an image at
a time, and likewise for groups of five images under one perturbation. Intervals are 95 % (Student's t) over images or groups,
for these models. Prints, and writes ``docs/results/minmax-weights-PROFILE.json``.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from fedsim.config import read
from fedsim.minmax.apgda import Apgda, Found, Trying, Weighing
from fedsim.minmax.balls import Ball
from fedsim.parties.minmax import Query
from fedsim.parties.minmax.domains import Domains, Inputs, Models
from fedsim.parties.minmax.training import keep, restore, train
from fedsim.parties.minmax.victim import ModelVictim
from fedsim.report.seeds import spread
from fedsim.report.words import estimate
from fedsim.scenarios.minmax import ATTACKER, build_attacker, build_victim
from fedsim.seeding import Rng, determine, simulated_secret

RESULTS = Path(__file__).parent.parent / "docs" / "results"
HALVINGS, STEPS = 7, 20
WIDEST = 0.6
"""Bisections and their steps; the largest radius that is tried."""


def play(domains: Domains, victims: Sequence[ModelVictim], ball: Ball, plan: Weighing) -> tuple[Found, Tensor]:
    """An attack on victims in this process, and which examples are wrong in each domain in the end, (K, n)."""
    count = len(domains.names)
    trials = Apgda(domains.low, domains.high, ball, plan, torch.full((count,), 1 / count), Rng.root(0))
    while not trials.over:
        images = domains.images(trials.trying)
        trials.told(domains.told(trials.trying, [victim.answer(Query(0, *images, True)) for victim in victims]))
    found = trials.found
    images = domains.images(Trying(torch.arange(len(found.delta)), found.delta))
    answers = [victim.answer(Query(0, *images, False)).wrong for victim in victims]
    return found, domains.apart(answers)


def nearest(x: Tensor, labels: Tensor, victim: ModelVictim) -> Tensor:
    """The smallest linf radius at which each image was made wrong for one model, (n,); the ball of each is its box."""
    low, high = torch.zeros(len(x)), torch.full((len(x),), WIDEST)
    plan = Weighing.model_validate({"rule": "average", "iterations": STEPS, "kappa": 0.5, "start": 0.0})
    for _ in range(HALVINGS):
        radius = ((low + high) / 2)[:, None]
        domains = Models(x, labels, ["it"])
        domains.low, domains.high = domains.low.clamp_min(-radius), domains.high.clamp_max(radius)
        wrong = play(domains, [victim], Ball(norm="linf", eps=WIDEST, step=WIDEST / STEPS), plan)[1][0]
        low, high = torch.where(wrong, low, radius[:, 0]), torch.where(wrong, radius[:, 0], high)
    return high


def ranks(weights: Tensor, radii: Tensor) -> list[float]:
    """Spearman's correlation of each column's weights with its radii, (K, n) both; none where all of either are equal."""
    pairs = [(w, r) for w, r in zip(weights.T, radii.T, strict=True) if len(w.unique()) > 1 and len(r.unique()) > 1]
    return [float(spearmanr(w.numpy(), r.numpy()).statistic) for w, r in pairs]


def main() -> None:
    profile, seed = sys.argv[1] if len(sys.argv) > 1 else "mnist", int(sys.argv[2]) if len(sys.argv) > 2 else 7
    file = read("minmax", [f"seed={seed}", "compare={}"], profile)
    scenario: Any = file.scenario
    determine(file.threads)
    public = Rng.root(seed)
    attacker = build_attacker(scenario, public, Rng.secret(simulated_secret(seed, ATTACKER)))
    victims = []
    start = time.perf_counter(), time.process_time()
    for name in scenario.victims:
        victim = build_victim(scenario, name, public, Rng.secret(simulated_secret(seed, name)))
        if not restore(victim.network, victim.digest):
            train(victim.network, victim.x, victim.labels, victim.training, victim.rng, lambda done: None)
            keep(victim.network, victim.digest)
        victims.append(victim)
    trained = time.perf_counter() - start[0], time.process_time() - start[1]
    names = list(scenario.victims)
    wrong = Models(attacker.x, attacker.labels, names).apart(
        [victim.answer(Query(0, attacker.x, attacker.labels, False)).wrong for victim in victims]
    )
    right = (~wrong.any(dim=0)).nonzero().flatten()[: scenario.examples]
    x, labels, ball, plan = attacker.x[right], attacker.labels[right], scenario.balls[0], scenario.attack
    start = time.perf_counter(), time.process_time()
    found, fooled = play(Models(x, labels, names), victims, ball, plan)
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"victims: {trained[0]:.0f} s, of the processor {trained[1]:.0f} s (0: they were kept)")
    print(f"{len(x)} images x {len(names)} models x {plan.iterations} iterations, {ball.name}: {seconds[0]:.1f} s, of the "
          f"processor {seconds[1]:.1f} s; all fooled {fooled.all(dim=0).double().mean():.3f}")  # fmt: skip
    radii = torch.stack([nearest(x[:100], labels[:100], victim) for victim in victims])
    by_model = ranks(found.weights[:, :100], radii)
    hardest = (found.weights[:, :100].argmax(dim=0) == radii.argmax(dim=0)).double().mean()
    for name, radius, weight in zip(names, radii.mean(dim=1), found.weights.mean(dim=1), strict=True):
        print(f"{name}: mean smallest radius {radius:.3f}, mean weight {weight:.2f}")
    print(f"rank correlation over the models, an image at a time: {estimate(spread(by_model))}")
    print(f"the largest weight lies on the model with the largest radius: {hardest:.3f} of the images")
    group, _ = play(Inputs(x[:100].view(-1, 5, *x.shape[1:]), labels[:100].view(-1, 5)), [victims[-1]], ball, plan)
    by_image = ranks(group.weights, radii[-1].view(-1, 5).T)
    print(f"rank correlation over five images, a group at a time: {estimate(spread(by_image))}")
    record = {
        "command": shlex.join(["python", "benchmarks/minmax.py", profile, str(seed)]),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "victims_seconds": trained,
        "attack_seconds": seconds,
        "all_fooled": float(fooled.all(dim=0).double().mean()),
        "mean_radius": dict(zip(names, radii.mean(dim=1).tolist(), strict=True)),
        "mean_weight": dict(zip(names, found.weights.mean(dim=1).tolist(), strict=True)),
        "rank_correlation_models": spread(by_model),
        "hardest_has_largest_weight": float(hardest),
        "rank_correlation_images": spread(by_image),
    }
    (RESULTS / f"minmax-weights-{profile}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
