"""Robust pre-training over seeds: ``python benchmarks/contrastive_figures.py RUN [NAME]``.

RUN is the folder of ``fedsim run contrastive --seeds N``. Prints the tables of docs/contrastive.md, and writes
``docs/results/NAME.json`` (with command, machine and date; default ``contrastive``) and ``NAME.png``. Intervals are 95 %
(Student's t) of the mean over seeds; differences between arms are paired by seed.
"""

from __future__ import annotations

import json
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from fedsim.report.curves import INKS, MARKS
from fedsim.report.seeds import reach, spread, spread_difference
from fedsim.report.words import change, estimate, interval, title

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SHOWN = ("accuracy", "pgd_accuracy", "apgd_accuracy", "pgd_upper_alone", "pgd_lower_alone")
LADDER = ("clean_accuracy", "pgd_accuracy", "pgd_long", "pgd_restarts", "apgd_accuracy")
PAIRS = {
    "rocl against simclr": ("rocl", "simclr"),
    "acl against simclr": ("acl", "simclr"),
    "advcl against simclr": ("advcl", "simclr"),
    "ours against simclr": ("ours", "simclr"),
    "the attacked view": ("advcl, neither", "simclr"),
    "pseudo-labels, without high frequencies": ("advcl, no high frequencies", "advcl, neither"),
    "pseudo-labels, with high frequencies": ("advcl", "advcl, no pseudo-labels"),
    "high frequencies, without pseudo-labels": ("advcl, no pseudo-labels", "advcl, neither"),
    "high frequencies, with pseudo-labels": ("advcl", "advcl, no high frequencies"),
    "cross-party positives": ("ours", "advcl, no high frequencies"),
    "a joint loss against each party by itself": ("advcl, no high frequencies", "each party by itself"),
    "ALF against SLF": ("ALF", "advcl, no high frequencies"),
    "AFF against SLF": ("AFF", "advcl, no high frequencies"),
    "supervised AT against the best SLF": ("supervised AT", "acl"),
}
"""What is to be compared: by a name, an arm and what it is held against."""


def signed(found: dict[str, Any]) -> str:
    return f"{change(found['mean'])} ({interval(found, signed=True)})"


def main() -> None:
    run, name = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "contrastive"
    seeds = sorted(path for path in run.glob("seed-*") if (path / "summary.json").exists())
    summaries = [json.loads((path / "summary.json").read_text("utf-8")) for path in seeds]
    arms = list(summaries[0]["arms"])
    values = {
        arm: {m: [s["arms"][arm]["task"][m] for s in summaries] for m in summaries[0]["arms"][arm]["task"]}
        for arm in arms
    }
    print("| arm |", " | ".join(title(metric) for metric in SHOWN), "| traffic (MB) | seconds |")
    for arm in arms:
        cells = [estimate(spread(values[arm][metric])) for metric in SHOWN]
        of = [s["arms"][arm] for s in summaries]
        traffic = f"{sum(each['traffic']['bytes'] for each in of) / len(of) / 1e6:.0f}"
        print(f"| {arm} |", " | ".join(cells), f"| {traffic} | {sum(each['seconds'] for each in of) / len(of):.0f} |")
    differences: dict[str, Any] = {}
    print("\n| what | clean | PGD | APGD |")
    for what, (one, other) in PAIRS.items():
        if one in arms and other in arms:
            gaps = {m: _gap(values, one, other, m) for m in ("accuracy", "pgd_accuracy", "apgd_accuracy")}
            differences[what] = gaps
            print(f"| {what} |", " | ".join(signed(gap) for gap in gaps.values()), "|")
    broken = [
        (arm, seed, weak, strong)
        for arm in arms
        for i, seed in enumerate(seeds)
        for weak, strong in pairwise(LADDER)
        if values[arm][strong][i] > values[arm][weak][i]
    ]
    print(f"\na stronger attack left more: {len(broken)} times", *(f"{a} {s.name} {w} < {t}" for a, s, w, t in broken))
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    command = ["fedsim", *manifest["command"][1:]]
    if "--out" in command:
        del command[command.index("--out") : command.index("--out") + 2]
    kept = {key: manifest[key] for key in ("started", "ended", "versions", "platform", "threads", "digest")}
    record = {
        "command": shlex.join(command),
        "cpu": manifest["cpu"]["model"],
        "seeds": [int(path.name.removeprefix("seed-")) for path in seeds],
        **kept,
        "task": {arm: {m: spread(v) for m, v in of.items()} for arm, of in values.items()},
        "differences": differences,
        "stronger_attacks_that_left_more": len(broken),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    picture(run, seeds, arms, RESULTS / f"{name}.png")


def _gap(values: dict[str, dict[str, list[float]]], one: str, other: str, metric: str) -> dict[str, Any]:
    return spread_difference(values[one][metric], values[other][metric])


def picture(run: Path, seeds: list[Path], arms: list[str], out: Path) -> None:
    """Accuracy against eps, mean over seeds, for the arms that pre-train and the baselines."""
    drawn = [arm for arm in ("simclr", "acl", "advcl", "ours", "supervised", "supervised AT") if arm in arms]
    figure, axes = pyplot.subplots(figsize=(6, 3.8), layout="constrained")
    for i, arm in enumerate(drawn):
        lines = []
        for seed in seeds:
            record = json.loads((seed / "seats.json").read_text("utf-8"))["arms"][arm]
            lines.append(next(f for f in record["figures"] if f["title"] == "Accuracy against eps")["lines"][0])
        along = [spread(ys) for ys in zip(*(line["y"] for line in lines), strict=True)]
        ends = list(zip(*map(reach, along), strict=True))
        style = {"color": INKS[i % len(INKS)], "marker": MARKS[i % len(MARKS)], "ms": 4, "capsize": 2}
        axes.errorbar(lines[0]["x"], [each["mean"] for each in along], ends, label=arm, **style)
    axes.set(xlabel="eps, pixels of both parties", ylabel="accuracy under PGD")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
