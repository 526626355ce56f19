"""How long, and how much memory, do CAFE's steps I and II take? ``python benchmarks/cafe_steps.py [parties]``

The size of the paper's runs: 800 rows in batches of 40, 1,000 rounds, the first fully connected layer from 2,048 to 256,
four parties one after the other, each with its sums kept to the end; two threads. h and v are synthetic: h as behind a
ReLU, v of rank 64 (the next layer's width). A round's gradients are made just before they are seen and are not timed.
Prints for the exact solver seconds, peak memory above the data (MB; from ``VmHWM``), and the relative error of H; then, of
one party, what the paper's optimisers reach on the same sums with growing budgets, until the exact solver's error or the
last budget is reached. Their rates are the defaults of `cafe`; each budget starts afresh.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fedsim.scenarios.attacks._descent import Descent, iterative
from fedsim.scenarios.attacks._recover import Equations, equations, exact, recover
from fedsim.scenarios.attacks._stream import Round, Stream
from fedsim.seeding import Rng, determine

ROWS, BATCH, ROUNDS, INPUTS, UNITS, RANK = 800, 40, 1000, 2048, 256, 64
BUDGETS = ((20_000, 250), (20_000, 1000), (20_000, 2000))
"""Iterations of steps I and II; the 20,000 are the paper's."""


def rounds(h: Tensor, v: Tensor, batches: list[Tensor]) -> Iterator[Round]:
    for rows in batches:
        yield Round(rows, v[rows].mean(dim=0), v[rows].T @ h[rows] / BATCH)


def peak() -> float:
    """The largest size of this process so far, MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def descend(given: Equations, h: Tensor, goal: float) -> None:
    for first, second in BUDGETS:
        start = time.perf_counter()
        found = recover(given, iterative(Descent(5e-3, first, 1e-2, second), Rng.root(1), lambda done: None))
        error = float((found.h - h).norm() / h.norm())
        print(f"iterative, one party, {first} + {second} iterations: {time.perf_counter() - start:.1f} s,"
              f" relative error {error:.1e}", flush=True)  # fmt: skip
        if error <= goal:
            return
    print(f"iterative: does not reach {goal:.1e}")


def main() -> None:
    determine(2)
    torch.manual_seed(0)
    parties = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    data = [
        (torch.randn(ROWS, INPUTS).relu(), torch.randn(ROWS, RANK) @ torch.randn(RANK, UNITS)) for _ in range(parties)
    ]
    batches = [torch.randperm(ROWS)[:BATCH] for _ in range(ROUNDS)]
    warm = torch.linalg.lstsq(torch.rand(300, 300).double(), torch.rand(300, 9).double(), driver="gelsd")
    del warm
    before, listening, solving, worst = peak(), 0.0, 0.0, 0.0
    streams = []
    for h, v in data:
        stream = Stream(ROWS, 8)
        for each in rounds(h, v, batches):
            start = time.perf_counter()
            stream = stream.add(each)
            listening += time.perf_counter() - start
        streams.append(stream)
    for (h, _), stream in zip(data, streams, strict=True):
        start = time.perf_counter()
        found = recover(equations(stream.settled()), exact)
        solving += time.perf_counter() - start
        worst = max(worst, float((found.h - h).norm() / h.norm()))
    print(f"exact: {listening + solving:.1f} s (listening {listening:.1f}, solving {solving:.1f}), {peak() - before:.0f} MB,"
          f" relative error {worst:.1e}", flush=True)  # fmt: skip
    descend(equations(streams[0].settled()), data[0][0], worst)


if __name__ == "__main__":
    main()
