"""Accuracy and PSNR against how far fake gradients are from true ones: ``python benchmarks/distance_figure.py RUN``.

RUN is the folder of ``fedsim run leakage_distance --seeds N``. Prints a table and writes ``docs/results/leakage_distance.png``.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from fedsim.report.seeds import reach, rederive
from fedsim.report.words import estimate

FARTHEST = 1000
"""Fakes of a scale of their own lie beyond: their distance is ruled by tensors whose true gradient is next to nothing."""
RESULTS = Path(__file__).parent.parent / "docs" / "results"


def distances(run: Path, arm: str) -> list[float]:
    """The mean over links of ``|fake - true| / |true|``, for each seed; 0 where nothing is faked."""
    found = []
    for folder in sorted(run.glob("seed-*")):
        stages = json.loads((folder / "seats.json").read_text("utf-8"))["arms"][arm]["stages"]
        far = [stage["distance"] for stage in stages if "distance" in stage]
        found.append(sum(far) / len(far) if far else 0.0)
    return found


def main() -> None:
    run = Path(sys.argv[1])
    arms: dict[str, Any] = rederive(json.loads((run / "summary.json").read_text("utf-8")))["arms"]
    points = []
    for name, arm in arms.items():
        far = statistics.fmean(distances(run, name))
        (trial,) = arm["trials"]
        points.append((name, far, arm["task"]["accuracy"], trial["score"], trial["chance"]["mean"]))
        task, score = points[-1][2], points[-1][3]
        print(f"{name:24} distance {far:9.2f}  accuracy {estimate(task)}  PSNR {estimate(score, 'psnr')}")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for optimiser, colour in (("adam", "#1f5fa8"), ("momentum", "#c06a1f")):
        mine = sorted((p for p in points if p[0].startswith(optimiser) and p[1] < FARTHEST), key=lambda p: p[1])
        for axes, nth in ((left, 2), (right, 3)):
            x, y = [p[1] for p in mine], [p[nth]["mean"] for p in mine]
            ends = list(zip(*(reach(p[nth]) for p in mine), strict=True))
            axes.errorbar(x, y, ends, fmt="o-", color=colour, capsize=3, label=optimiser)
    right.axhline(points[0][4], color="#777", linestyle="--", label="mean image")
    for axes, label in ((left, "test accuracy"), (right, "CAFE, PSNR (dB)")):
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_xlim(left=-0.01)
        axes.set(xlabel="|fake - true| / |true|", ylabel=label)
        axes.legend(frameon=False)
    figure.savefig(RESULTS / "leakage_distance.png", dpi=150)


if __name__ == "__main__":
    main()
