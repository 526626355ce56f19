"""Who pays: ``python benchmarks/card_groups.py RUN NAME``, a run over seeds whose arms ask for fairness.

Prints, by group and arm, the mean of each rate over the seeds, its paired difference to the first arm with a 95 %
interval (Student's t), and writes all of it to ``docs/results/NAME.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fedsim.report.seeds import spread, spread_difference
from fedsim.report.words import change, interval

RATES = ("selection rate", "true positive rate", "false positive rate")
BARS = "What each party is worth"


def rates(arm: dict[str, Any]) -> dict[tuple[str, str], float]:
    """By line and rate (or measure), what one run says of one arm."""
    found = {}
    for figure in arm["figures"]:
        if figure["title"].startswith("Fairness by"):
            places = [figure["columns"].index(rate) for rate in RATES]
            for name, values in zip(figure["rows"], figure["values"], strict=True):
                if not name.endswith("difference"):
                    found |= {(name, rate): values[at] for rate, at in zip(RATES, places, strict=True)}
        if figure["title"].startswith(BARS):
            measure = figure["title"].removeprefix(f"{BARS}: ")
            found |= {(n, f"worth, {measure}"): v for n, v in zip(figure["names"], figure["values"], strict=True)}
    return found


def main() -> None:
    """Every line that all seeds have."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    runs = json.loads((folder / "summary.json").read_text("utf-8"))["runs"]
    seeds = [json.loads((folder / run / "seats.json").read_text("utf-8"))["arms"] for run in runs]
    arms = {arm: [rates(seed[arm]) for seed in seeds] for arm in seeds[0]}
    first, record = next(iter(arms)), list[dict[str, Any]]()
    for line, rate in arms[first][0]:
        for arm, found in arms.items():
            if any((line, rate) not in each for each in found):
                continue
            values = [each[line, rate] for each in found]
            mean, by = spread(values), spread_difference(values, [each[line, rate] for each in arms[first]])
            record.append({"of": line, "rate": rate, "arm": arm, "mean": mean, "change": by})
            print(f"{line} | {rate} | {arm} | {mean['mean']:.3f} | {change(by['mean'])} ({interval(by, signed=True)})")
    out = Path(__file__).parent.parent / "docs" / "results" / f"{name}.json"
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
