"""Where does the time of a step go when every seat has its own process? ``python benchmarks/processes.py`` (on Linux)

The network of ``benchmarks/step.py`` under the runtime ``processes``: wall time of a step, and the processor time that each
seat's process takes for one, in Python and libraries (user) and in the kernel (system). Beside them the monolithic step and the
bare split of ``benchmarks/step.py``, in one process with warm caches: what the maths alone costs.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from step import CLASSES, FEATURES, PARTIES, ROWS, SCENARIO, bare, batches, monolithic

from fedsim import config
from fedsim.runtime.processes import Processes
from fedsim.seeding import determine

STEPS, ROUNDS = 4000, 3
TICK = os.sysconf("SC_CLK_TCK")
Used = Mapping[str, tuple[float, float]]


def used() -> Used:
    """By seat, the seconds of user and system time that its process has taken so far."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text().split("\0")
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if "fedsim seat" in words and int(fields[1]) == os.getpid():
            role = words[words.index("fedsim seat") + 1]
            found[role] = (int(fields[11]) / TICK, int(fields[12]) / TICK)
    return found


def profile() -> dict[str, float]:
    """Microseconds a step between a quarter and nine tenths of a run: wall, and by seat user and system time."""
    marks: list[tuple[float, int, Used]] = []

    def watch(role: str, row: Mapping[str, Any]) -> None:
        if "loss" in row and row["step"] in (STEPS // 4, STEPS * 9 // 10):
            marks.append((time.perf_counter(), row["step"], used()))

    file = config.validate(SCENARIO, "step", {})
    scenario = file.scenario.model_copy(update={"steps": STEPS, "evaluate": STEPS})
    Processes().run(file.model_copy(update={"scenario": scenario}), watch)
    (start, first, before), (end, last, after) = marks
    micro = 1e6 / (last - first)
    found = {"wall": (end - start) * micro}
    for role in after:
        for i, name in enumerate(("user", "system")):
            found[f"{role} {name}"] = (after[role][i] - before[role][i]) * micro
    return found


def main() -> None:
    determine(1)
    torch.manual_seed(0)
    slices, labels = [torch.randn(ROWS, FEATURES) for _ in range(PARTIES)], torch.randint(CLASSES, (ROWS,))
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        order = batches()
        alone = {"monolithic": 1e6 / monolithic(slices, labels, order), "bare split": 1e6 / bare(slices, labels, order)}
        rounds.append(alone | profile())
        print(json.dumps({name: round(value) for name, value in rounds[-1].items()}), flush=True)
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    for name, value in medians.items():
        print(f"{name:16} {value:6.0f} us a step")
    seats = sum(value for name, value in medians.items() if name.endswith((" user", " system")))
    share = seats / (os.cpu_count() or 1) / medians["wall"]
    print(f"all seats together {seats:.0f} us of processor time a step: {share:.2f} of what the cores have")
    print(
        f"processes take the step at {medians['monolithic'] / medians['wall']:.2f} x the rate of the monolithic module"
    )


if __name__ == "__main__":
    main()
