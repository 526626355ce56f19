"""The claims of contaminated best arm identification on arms with known means: ``python benchmarks/best_arm_figures.py``.

Prints each claim with its figures, and writes ``docs/results/best_arm.json`` and ``docs/results/best_arm.png``. With a number
behind it: so many runs of each instance instead of 200.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from fedsim.bandit.intervals import Problem
from fedsim.bandit.laws import Law, best, play
from fedsim.bandit.lies import Lie
from fedsim.bandit.search import Search
from fedsim.confidence import estimate_mean, estimate_share
from fedsim.seeding import Rng

RESULTS = Path(__file__).parent.parent / "docs" / "results"
DELTA = 0.1


@dataclass(frozen=True)
class Instance:
    """Arms, how they lie, and how the best is searched for."""

    name: str
    laws: Sequence[Law]
    sigma: float
    eps: float
    lie: Lie | None
    how: dict[str, Any] = field(default_factory=dict)

    def search(self) -> Search:
        """The search with this instance's eps."""
        return Search.model_validate({"eps": self.eps, "delta": DELTA, **self.how})


def gaussian(gap: float, arms: int = 6) -> list[Law]:
    """One arm better than the others by ``gap``, deviation 1."""
    return [Law(gap), *[Law(0.0)] * (arms - 1)]


def skewed(*others: float) -> list[Law]:
    """A skewed arm of mean 1.2 among Gaussian ones of deviation 1.5."""
    return [Law(1.2, "skewed"), *(Law(mean, deviation=1.5) for mean in others)]


BERNOULLI = [Law(0.8, "bernoulli"), *[Law(0.3, "bernoulli")] * 5]
TIED, UNTIED = skewed(0.6, 0.6, 0.3, 0.3, 0.0), skewed(0.7, 0.5, 0.3, 0.3, 0.0)
CAP = {"max_pulls": 150_000}


def instances() -> list[Instance]:
    """Everything that is played."""
    found = []
    for eps in (0.02, 0.05, 0.1):
        for lie in ("gross", "edge", "adaptive", "varying"):
            for rule in ("gap", "elimination"):
                found.append(Instance("gap 1", gaussian(1.0), 1.0, eps, lie, {"rule": rule}))
    for rule in ("gap", "lucb", "elimination", "uniform"):
        found.append(Instance("gap 1", gaussian(1.0), 1.0, 0.05, "gross", {"rule": rule, "estimator": "mean", **CAP}))
    for eps in (0.05, 0.1):
        found.append(Instance("gap 1", gaussian(1.0), 1.0, eps, "gross", {"rule": "gap", "estimator": "median"}))
    found.append(Instance("gap 1", gaussian(1.0), 1.0, 0.05, "gross", {"rule": "uniform"}))
    for lie in ("gross", "edge"):
        for estimator in ("trimmed", "median", "mean"):
            for rule in ("gap", "elimination"):
                how = {"rule": rule, "estimator": estimator, **CAP}
                found.append(Instance("skewed, two others tie", TIED, 1.5, 0.02, lie, how))
        for estimator in ("trimmed", "median"):
            how = {"rule": "gap", "estimator": estimator, **CAP}
            found.append(Instance("skewed, no tie", UNTIED, 1.5, 0.02, lie, how))
    for rule in ("gap", "elimination"):
        found.append(Instance("Bernoulli", BERNOULLI, 0.5, 0.05, "gross", {"rule": rule}))
    found.append(Instance("gap below four times the bias", gaussian(0.2), 1.0, 0.05, "gross", {"rule": "gap", **CAP}))
    return found


def one(instance: Instance, run: int) -> tuple[int | None, int]:
    """The choice and the pulls of one run."""
    outcome = play(instance.laws, instance.sigma, instance.search(), Rng.root(run), instance.lie)
    return outcome.arm, outcome.total


def measure(pool: ProcessPoolExecutor, instance: Instance, runs: int) -> dict[str, Any]:
    """Shares with exact (Clopper-Pearson) 95 % intervals, and mean pulls with those of Student's t, over the runs."""
    start = time.perf_counter()
    ended = list(pool.map(partial(one, instance), range(runs), chunksize=10))
    right = sum(arm == best(instance.laws) for arm, _ in ended)
    sure, pulls = estimate_share(right, runs), [pulls for _, pulls in ended]
    mean = estimate_mean(pulls)
    return {
        "instance": instance.name,
        "eps": instance.eps,
        "lie": instance.lie,
        **instance.search().model_dump(include={"rule", "estimator", "max_pulls"}),
        "runs": runs,
        "correct": right / runs,
        "correct_interval": [sure.low, sure.high],
        "undecided": sum(arm is None for arm, _ in ended) / runs,
        "pulls": [mean.mean, mean.low, mean.high],
        "pulls_deviation": statistics.stdev(pulls),
        "seconds": time.perf_counter() - start,
    }


def line(found: dict[str, Any]) -> str:
    """A measurement in one line."""
    low, high = found["correct_interval"]
    pulls, least, most = found["pulls"]
    return (
        f"{found['instance']:30} eps {found['eps']:<4} {found['lie'] or 'none':8} {found['estimator']:7} {found['rule']:11} "
        f"correct {found['correct']:.3f} ({low:.3f} to {high:.3f})  undecided {found['undecided']:.3f}  "
        f"pulls {pulls:8,.0f} ({least:,.0f} to {most:,.0f})"
    )


def complexity(pool: ProcessPoolExecutor, runs: int) -> dict[str, list[dict[str, Any]]]:
    """Pulls against the gap at eps .02, and against eps at gap 1, for both rules."""
    gaps = (0.3, 0.4, 0.6, 0.8, 1.2, 1.6)
    shares = (0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1)
    return {
        "gap": [
            {"gap": gap, **measure(pool, Instance("", gaussian(gap), 1.0, 0.02, "gross", {"rule": rule}), runs)}
            for gap in gaps for rule in ("gap", "elimination")
        ],
        "eps": [
            {"gap": 1.0, **measure(pool, Instance("", gaussian(1.0), 1.0, eps, "gross", {"rule": rule}), runs)}
            for eps in shares for rule in ("gap", "elimination")
        ],
    }  # fmt: skip


def theory(gap: float, eps: float) -> float:
    """How pulls grow: with ``1 / (gap - 4 b)^2``, for intervals part when four radii are less than the gap."""
    problem = Problem(6, 1.0, eps, DELTA)
    return 1 / (gap - problem.separable) ** 2


def constant(found: dict[str, Any]) -> float:
    """Pulls times what the theory divides by."""
    return float(found["pulls"][0] / theory(found["gap"], found["eps"]))


def draw(found: dict[str, list[dict[str, Any]]]) -> None:
    """Pulls with the theory's slope, which is put through one point of the gap-based rule."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, along in zip(axes, ("gap", "eps"), strict=True):
        for rule, colour in (("gap", "#1f5fa8"), ("elimination", "#c06a1f")):
            mine = [each for each in found[along] if each["rule"] == rule]
            x, y = [each[along] for each in mine], [each["pulls"][0] for each in mine]
            panel.plot(x, y, "o-", color=colour, label=rule)
            if rule == "gap":
                known = mine[-1 if along == "gap" else 0]  # where the bias is least of the gap
                scale = constant(known)
                drawn = [scale * theory(each["gap"], each["eps"]) for each in mine]
                panel.plot(x, drawn, "--", color="#777", label="1 / (gap - 4b)²")
        panel.set_yscale("log")
        panel.set(ylabel="pulls", xlabel="gap (eps .02)" if along == "gap" else "eps (gap 1)")
        panel.legend(frameon=False)
    axes[0].set_xscale("log")
    figure.savefig(RESULTS / "best_arm.png", dpi=150)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with ProcessPoolExecutor(2) as pool:
        rows = []
        for instance in instances():
            rows.append(measure(pool, instance, runs))
            print(line(rows[-1]), flush=True)
        start = time.perf_counter()
        list(pool.map(partial(one, instances()[8]), range(1000), chunksize=20))
        thousand = time.perf_counter() - start
        print(f"1,000 runs of gap 1, eps .05, gross, gap-based: {thousand:.1f} s on 2 cores")
        curves = complexity(pool, max(20, runs // 4))
    for each in [*curves["gap"], *curves["eps"]]:
        print(
            f"gap {each['gap']:<4} eps {each['eps']:<4} {each['rule']:11} pulls {each['pulls'][0]:9,.0f}  "
            f"times (gap - 4b)²: {constant(each):7,.0f}  correct {each['correct']:.2f}"
        )
    draw(curves)
    command = f"python benchmarks/best_arm_figures.py {runs}"
    record = {
        "command": command,
        "cores": os.cpu_count(),
        "seconds_for_1000_runs": thousand,
        "instances": rows,
        **curves,
    }
    (RESULTS / "best_arm.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
