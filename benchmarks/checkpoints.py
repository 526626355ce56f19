"""What do checkpoints cost? ``python benchmarks/checkpoints.py``

The network of ``benchmarks/step.py`` with and without a checkpoint every 50 training steps, interleaved so that a noisy machine
hits both alike: the ratio of the step rates in one process, where all five seats write, and with a process a seat.

On a machine that does much else at the same time such ratios say little. So within each run in one process the processor time
that checkpoints take is measured as well, beside that of the training: what training waits for (a part is copied), and what
the threads do that write. If no core is free their sum is what checkpoints cost; if one is, the former alone is, nearly.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from step import SCENARIO

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.cuts import Cuts
from fedsim.shelf import Shelf
from fedsim.supervision import keeping

EVERY, STEPS, ROUNDS = 50, 1000, 5
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


class Spent:
    """Processor time of this process in seconds: all of it, and what its checkpoints take of it."""

    def __init__(self) -> None:
        self.taken = self.written = 0.0

    def __enter__(self) -> Spent:
        """Measure from now on."""
        self._take, self._write = Cuts.take, Shelf._write

        def take(cuts: Cuts, *args: Any) -> None:
            start = time.thread_time()
            self._take(cuts, *args)
            self.taken += time.thread_time() - start

        def write(shelf: Shelf, *args: Any) -> None:
            start = time.thread_time()
            self._write(shelf, *args)
            self.written += time.thread_time() - start

        Cuts.take, Shelf._write = take, write  # type: ignore[method-assign, assignment]
        self._start = time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        """Measure no more."""
        self.all = time.process_time() - self._start
        Cuts.take, Shelf._write = self._take, self._write  # type: ignore[method-assign]


def rate(file: ScenarioFile) -> tuple[float, Spent]:
    """Steps a second after the first quarter, and the processor time that the run took."""
    marks: list[float] = []

    def watch(role: str, row: Any) -> None:
        if "loss" in row and row["step"] in (STEPS // 4, STEPS - 1):
            marks.append(time.perf_counter())

    with Spent() as spent:
        file.runtime.run(file, watch)
    return (STEPS - 1 - STEPS // 4) / (marks[1] - marks[0]), spent


def main() -> None:
    ratios: dict[str, list[float]] = {way: [] for way in WAYS}
    shares: dict[str, list[float]] = {"copying, for which training waits": [], "writing, by threads of its own": []}
    for _ in range(ROUNDS):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                kept, spent = rate(made(way, Path(folder)))
            ratios[way].append(kept / rate(made(way, None))[0])
            if way == "local":
                training = spent.all - spent.taken - spent.written
                for name, seconds in zip(shares, (spent.taken, spent.written), strict=True):
                    shares[name].append(seconds / training)
        print(json.dumps({name: round(values[-1], 4) for name, values in {**ratios, **shares}.items()}), flush=True)
    for name, values in ratios.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(
            f"{name}: a checkpoint every {EVERY} steps leaves {middle:.3f} of the step rate ({low:.3f} to {high:.3f})"
        )
    for name, values in shares.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name}: {middle:.2%} of the processor time of training ({low:.2%} to {high:.2%})")


if __name__ == "__main__":
    main()
