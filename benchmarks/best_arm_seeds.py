"""Whether the right party is found over many seeds: ``python benchmarks/best_arm_seeds.py PROFILE SEEDS ARM ...``.

PROFILE is one of ``scenarios/best_arm.yaml``, each ARM one of its comparison. In each seed lies are aimed anew: those of the
party that is truly the best push it down, all others up. Prints a table and writes ``docs/results/best_arm-PROFILE.json``.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from fedsim.confidence import estimate_mean
from fedsim.config import ScenarioFile, read, validate
from fedsim.outcome import SeatReport

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def hub(file: ScenarioFile) -> SeatReport:
    """What the hub of a played arm reports."""
    return next(report for report in file.runtime.run(file, lambda role, row: None) if report.role == file.plan().hub)


def gains(report: SeatReport) -> dict[str, float]:
    """The true gain of each party, in nats."""
    table = next(figure for figure in report.figures if figure["title"] == "The arms")
    at = list(table["columns"]).index("true gain")
    return {name: row[at] for name, row in zip(table["rows"], table["values"], strict=True)}


def aimed(file: ScenarioFile, best: str) -> ScenarioFile:
    """The same with lies that push ``best`` down and everybody else up."""
    (link, *_) = file.links
    lie = link.sender[0].model_dump(mode="json")
    links = [
        {
            **link.model_dump(mode="json"),
            "from": flow.frm,
            "sender": [{**lie, "harm": "down" if flow.frm == best else "up"}],
        }
        for flow in file.plan().flows
        if flow.kind == "Reward"
    ]
    return validate({**file.resolved(), "links": links}, file.name, {})


def play(profile: str, names: Sequence[str], seed: int) -> dict[str, Any]:
    """One seed: who is the best, and what each arm of the comparison made of it."""
    arms = read("best_arm", [f"seed={seed}"], profile).arms()
    first = hub(arms[names[0]])
    true = gains(first)
    best = max(true, key=lambda name: true[name])
    found: dict[str, Any] = {"seed": seed, "best": best, "gains": true, "arms": {}}
    for name in names:
        file = aimed(arms[name], best)
        played = first if file.digest() == arms[names[0]].digest() else hub(file)
        task = [row["test"] for row in played.rows if "test" in row][-1]
        found |= {key: task[key] for key in ("gap", "four_times_bias")}
        found["arms"][name] = {key: task[key] for key in ("chose_the_best", "decided", "pulls")}
    return found


def tell(title: str, seeds: list[Mapping[str, Any]]) -> None:
    """A line an arm: right, undecided and wrong choices, and mean pulls with their interval (Student's t over seeds)."""
    print(f"{title}: {len(seeds)} seeds")
    for name in seeds[0]["arms"] if seeds else ():
        each = [seed["arms"][name] for seed in seeds]
        right, decided = sum(e["chose_the_best"] for e in each), sum(e["decided"] for e in each)
        pulls = estimate_mean([e["pulls"] for e in each])
        ends = f" ({pulls.low:,.0f} to {pulls.high:,.0f}), n = {pulls.n}" if pulls.has_interval else " (one seed)"
        print(f"  {name:12} right {right:3.0f}  undecided {len(each) - decided:3.0f}  wrong {decided - right:3.0f}"
              f"  pulls {pulls.mean:8,.0f}{ends}")  # fmt: skip


def main() -> None:
    profile, count, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    start = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        seeds = list(pool.map(partial(play, profile, names), range(count)))
    seconds = time.perf_counter() - start
    clear = [seed for seed in seeds if seed["gap"] > seed["four_times_bias"]]
    tell(f"{profile}, gap above four times the bias", clear)
    tell(f"{profile}, gap below", [seed for seed in seeds if seed not in clear])
    record = {
        "command": shlex.join(["python", "benchmarks/best_arm_seeds.py", *sys.argv[1:]]),
        "digest": read("best_arm", profile=profile).digest(),
        "cores": os.cpu_count(),
        "seconds": round(seconds, 1),
        "seeds": seeds,
    }
    (RESULTS / f"best_arm-{profile}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    main()
