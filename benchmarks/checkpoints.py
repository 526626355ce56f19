"""What do checkpoints cost? ``python benchmarks/checkpoints.py``

The network of ``benchmarks/step.py`` with and without a checkpoint every 50 training steps, interleaved so that a noisy machine
hits both alike: in one process, where all five seats write, and with a process a seat. Wall clock, and for the first the
processor time that the process takes, which other work on the machine changes less. Then one part of a checkpoint alone.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from step import SCENARIO

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.shelf import Shelf
from fedsim.supervision import keeping

EVERY, STEPS, ROUNDS = 50, 1000, 9
WAYS = ("local", "processes")


def made(runtime: str, folder: Path | None) -> ScenarioFile:
    scenario = {**SCENARIO["scenario"], "steps": STEPS, "evaluate": STEPS}  # type: ignore[dict-item]
    checkpoint = None if folder is None else {"every": EVERY}
    settings: dict[str, Any] = {
        **SCENARIO,
        "scenario": scenario,
        "checkpoint": checkpoint,
        "runtime": {"kind": runtime},
    }
    file = config.validate(settings, "step", {})
    return file if folder is None else keeping(file, folder)


def rate(file: ScenarioFile) -> tuple[float, float]:
    """Steps a second of wall clock, and of processor time of this process, after the first quarter."""
    marks: list[tuple[float, float]] = []

    def watch(role: str, row: Any) -> None:
        if "loss" in row and row["step"] in (STEPS // 4, STEPS - 1):
            marks.append((time.perf_counter(), time.process_time()))

    file.runtime.run(file, watch)
    (start, used), (end, all_used) = marks
    steps = STEPS - 1 - STEPS // 4
    return steps / (end - start), steps / (all_used - used)


def one_part(seconds: float = 2.0) -> tuple[float, float]:
    """Microseconds until a part is written, of a party's size, and of those the share that training has to wait at most."""
    tensors = {f"{name}{i}": torch.randn(64, 196) for name in ("parameters", "first", "second") for i in range(1)}
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder), "party", "x", 3)
        shelf.begin(None)
        written, taken, done, start = list[float](), list[float](), 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            done, before = done + 1, time.perf_counter()
            shelf.put(done, done, "m", ("{}", tensors), [])
            taken.append(time.perf_counter() - before)
            shelf.settle()
            written.append(time.perf_counter() - before)
        shelf.close()
    return statistics.median(written) * 1e6, statistics.median(taken) * 1e6


def main() -> None:
    ratios: dict[str, list[float]] = {"local": [], "local, processor time": [], "processes": []}
    for _ in range(ROUNDS):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                kept = rate(made(way, Path(folder)))
            plain = rate(made(way, None))
            ratios[way].append(kept[0] / plain[0])
            if way == "local":
                ratios["local, processor time"].append(kept[1] / plain[1])
        print(json.dumps({name: round(values[-1], 3) for name, values in ratios.items()}), flush=True)
    for name, values in ratios.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(
            f"{name}: a checkpoint every {EVERY} steps leaves {middle:.3f} of the step rate ({low:.3f} to {high:.3f})"
        )
    written, taken = one_part()
    print(f"a party's part: {written:.0f} us until it is written, of which training waits {taken:.0f}")


if __name__ == "__main__":
    main()
