"""What weights bear, over seeds: ``python benchmarks/weight_faults_figure.py RUN [NAME]``.

RUN is the folder of ``fedsim run weight_faults --seeds N``. Prints the tables of docs/weight_faults.md, and writes
``docs/results/NAME.json`` (with command, machine and date; default ``weight_faults``) and ``NAME.png``. Intervals are 95 %
(Student's t) of the mean over seeds; differences to the first arm are paired by seed.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from fedsim.report.curves import INKS, MARKS
from fedsim.report.seeds import reach, rederive, spread
from fedsim.report.words import estimate, number, title

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SHOWN = ("accuracy", "generalisation_gap", "pgd_accuracy", "certified_accuracy", "certified_accuracy_party")
Figures = dict[str, dict[str, Any]]


def drawn(run: Path, seeds: list[str], arm: str) -> list[Figures]:
    """By seed, the figures of an arm by their title."""
    records = [json.loads((run / seed / "seats.json").read_text("utf-8"))["arms"][arm] for seed in seeds]
    return [{figure["title"]: figure for figure in record["figures"]} for record in records]


def along(found: list[Figures], name: str, line: str) -> tuple[list[float], list[dict[str, Any]]]:
    """A line of a figure over seeds: its x, and the spread at each."""
    same = [next(x for x in figures[name]["lines"] if x["name"] == line) for figures in found]
    return same[0]["x"], [spread(ys) for ys in zip(*(each["y"] for each in same), strict=True)]


def sweep(found: list[Figures], seat: str) -> dict[str, Any]:
    """By part of a word, the accuracy at each number of flips."""
    parts = [line["name"] for line in found[0][f"Accuracy against flipped bits: {seat}"]["lines"]]
    return {
        part: dict(zip(*along(found, f"Accuracy against flipped bits: {seat}", part), strict=True)) for part in parts
    }


def main() -> None:
    run, name = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "weight_faults"
    manifest, summary = (
        rederive(json.loads((run / f"{each}.json").read_text("utf-8"))) for each in ("manifest", "summary")
    )
    record: dict[str, Any] = {"arms": {}}
    print("| arm |", " | ".join(title(metric) for metric in SHOWN), "| attacked, against the first arm |")
    for arm, of in summary["arms"].items():
        cells = [estimate(of["task"][metric], metric) for metric in SHOWN]
        print(f"| {arm} |", " | ".join(cells), f"| {estimate(of['price']['pgd_accuracy'])} |")
        found = drawn(run, summary["runs"], arm)
        curves = {key: along(found, key, "attacked") for key in found[0] if key.startswith("Accuracy against eps")}
        seats = [key.removeprefix("Accuracy against flipped bits: ") for key in found[0] if "flipped bits" in key]
        record["arms"][arm] = {
            "task": of["task"],
            "price": of["price"],
            "attacked": {key: dict(zip(*curve, strict=True)) for key, curve in curves.items()},
            "certificates": [figures["Certificates"] for figures in found],
            "worst single bits": [figures["The worst single bits found"] for figures in found],
            "flips": {seat: sweep(found, seat) for seat in seats},
        }
    first = next(iter(record["arms"].values()))
    for seat, parts in first["flips"].items():
        print(f"\n{seat}, flips:", ", ".join(map(str, next(iter(parts.values())))))
        for part, at in parts.items():
            print(f"  {part:22}", " ".join(f"{number(each['mean']):>5}" for each in at.values()))
    command = ["fedsim", *manifest["command"][1:]]
    if "--out" in command:
        del command[command.index("--out") : command.index("--out") + 2]
    kept = {key: manifest[key] for key in ("started", "ended", "versions", "platform", "threads", "digest")}
    whole = {
        "command": shlex.join(command),
        "cpu": manifest["cpu"]["model"],
        "seeds": summary["seeds"],
        **kept,
        **record,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    picture(run, summary, first, RESULTS / f"{name}.png")


def picture(run: Path, summary: dict[str, Any], first: dict[str, Any], out: Path) -> None:
    """Left: all weights attacked, and certified, by arm. Right: flips by part of a word, first arm, mean over draws."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained", width_ratios=(3, 2))
    for i, arm in enumerate(summary["arms"]):
        found, ink = drawn(run, summary["runs"], arm), INKS[i % len(INKS)] if i < len(INKS) else "#b8860b"
        x, y = along(found, "Accuracy against eps: all seats", "attacked")
        ends = list(zip(*map(reach, y), strict=True))
        left.errorbar(
            x, [each["mean"] for each in y], ends, color=ink, marker=MARKS[i % len(MARKS)], ms=4, capsize=2, label=arm
        )
        x, y = along(found, "Accuracy against eps: all seats", "certified")
        left.plot(x, [each["mean"] for each in y], color=ink, linestyle="--", linewidth=1)
    left.set(xscale="log", xlabel="eps, every weight of every seat", ylabel="test accuracy")
    left.set_title("attacked (marks), certified (dashed)", loc="left", fontsize=9)
    left.legend(frameon=False, fontsize=8, loc="lower left", handlelength=3.5)
    for i, (seat, parts) in enumerate(first["flips"].items()):
        for part, ink in (("exponent", INKS[1]), ("mantissa", INKS[2]), ("sign", INKS[0])):
            at = parts[f"{part}, mean"]
            style = ("-", "--", ":")[i % 3]
            right.plot(
                list(at),
                [each["mean"] for each in at.values()],
                style,
                color=ink,
                marker="o",
                ms=3,
                label=f"{part}, {seat}",
            )
    right.set_xscale("log")
    counts = list(next(iter(next(iter(first["flips"].values())).values())))
    right.set_xticks(counts, [str(count) for count in counts])
    right.minorticks_off()
    right.set_xlabel("flipped bits of one seat (float32)")
    right.set_title("standard training", loc="left", fontsize=9)
    right.legend(frameon=False, fontsize=7, handlelength=3.5)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
