"""Target accuracy against poisoned slices: ``python benchmarks/uda_slices_figure.py RUN``.

RUN is the folder of ``fedsim run uda_slices --seeds N``. Prints the table of docs/uda_poisoning.md and draws
``docs/results/uda_slices.png``; `record.py` puts the numbers on record. Intervals: Student's t, 95 %, over seeds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from fedsim.report.curves import INKS, MARKS
from fedsim.report.seeds import reach, spread
from fedsim.report.words import estimate

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SHOWN = ("accuracy", "poison_label", "source_accuracy")


def said(values: list[float]) -> str:
    return estimate(spread(values))


def slices(arms: dict[str, Any], who: str) -> dict[int, str]:
    """The arms of one attacker by the number of poisoned slices."""
    found = {int(name.split()[0]): name for name in arms if name.endswith(f", {who}")}
    return found if 0 in found else {0: "clean", **found}


def main() -> None:
    arms = json.loads((Path(sys.argv[1]) / "summary.json").read_text("utf-8"))["arms"]
    figure, axes = pyplot.subplots(figsize=(5.4, 3.4), layout="constrained")
    for i, who in enumerate(("alone", "label holder")):
        print(f"\n| slices, {who} | target accuracy | taken for the poison label | source accuracy |")
        named = slices(arms, who)
        for count, name in named.items():
            task = arms[name]["task"]
            print(f"| {count} |", " | ".join(said(task[metric]["values"]) for metric in SHOWN), "|")
        found = [spread(arms[name]["task"]["accuracy"]["values"]) for name in named.values()]
        ends = list(zip(*map(reach, found), strict=True))
        label = {"alone": "labels true", "label holder": "labels wrong"}[who]
        means = [each["mean"] for each in found]
        axes.errorbar(list(named), means, ends, color=INKS[i], marker=MARKS[i], ms=4, capsize=2, label=label)
    axes.set(xlabel="poisoned slices, of 4", ylabel="target accuracy", ylim=(0, 1), xticks=range(5))
    axes.legend(frameon=False)
    figure.savefig(RESULTS / "uda_slices.png", dpi=150)


if __name__ == "__main__":
    main()
