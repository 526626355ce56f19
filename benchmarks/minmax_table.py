"""The tables of docs/minmax.md, over seeds: ``python benchmarks/minmax_table.py RUN [ARM]``.

RUN is the folder of ``fedsim run ... --seeds N``, or a record of one under docs/results. Prints, for each metric, mean and
95 % interval (Student's t) of every arm; then the differences of ARM (default: min-max) to every other arm, paired by seed; and
where an arm plays both rules, those of min-max to the average inside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fedsim.report.seeds import spread, spread_difference
from fedsim.report.words import change, estimate, interval, title

LEFT_OUT = ("balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "examples")


def said(values: list[float]) -> str:
    return estimate(spread(values))


def apart(one: list[float], other: list[float]) -> str:
    found = spread_difference(one, other)
    return f"{change(found['mean'])} ({interval(found, signed=True)})"


def main() -> None:
    path, arm = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "min-max"
    found: dict[str, Any] = json.loads((path / "summary.json" if path.is_dir() else path).read_text("utf-8"))
    arms = found.get("summary", found)["arms"]
    metrics = [m for m in dict.fromkeys(m for each in arms.values() for m in each["task"]) if m not in LEFT_OUT]
    print("| |", " | ".join(arms), "|")
    for metric in metrics:
        cells = [each["task"].get(metric) for each in arms.values()]
        print(f"| {title(metric)} |", " | ".join(said(cell["values"]) if cell else "" for cell in cells), "|")
    if arm in arms:
        print(f"\n{arm} less each of the others")
        for metric in metrics:
            if metric in arms[arm]["task"]:
                own = arms[arm]["task"][metric]["values"]
                others = {
                    n: each["task"][metric]["values"] for n, each in arms.items() if n != arm and metric in each["task"]
                }
                print(
                    f"| {title(metric)} |",
                    " | ".join(f"{name} {apart(own, each)}" for name, each in others.items()),
                    "|",
                )
    for name, each in arms.items():
        for metric in (m.removesuffix(", minmax") for m in each["task"] if m.endswith(", minmax")):
            own, other = (each["task"].get(f"{metric}, {rule}", {}).get("values") for rule in ("minmax", "average"))
            if own and other:
                print(f"{name}, {metric}: min-max less average {apart(own, other)}")


if __name__ == "__main__":
    main()
