"""Does a long run stay as it is? ``python benchmarks/soak.py [STEPS]`` (on Linux)

A server and one party, each in a process of its own, train a tiny model for 200,000 steps over the network transport. After the
first tenth (warm-up) and every further tenth: the memory of each process (RSS), and its open descriptors.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsim import config
from fedsim.runtime.processes import Processes

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
SCENARIO = {
    "name": "soak",
    "scenario": {
        "kind": "baseline",
        "data": {"kind": "synthetic", "count": 80, "features": 4, "informative": 3, "test": 16},
        "parties": {"north": {"columns": "0:4"}},
        "bottom": {"kind": "linear"},
        "embedding": 2,
        "batch": 8,
        "steps": STEPS,
        "evaluate": STEPS,
    },
}
PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20


def seats() -> dict[str, tuple[float, int]]:
    """By seat, resident memory (MiB) and open descriptors of its process; the process that started them under ``starter``."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text().split("\0")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            mine = int(path.name) == os.getpid()
            if not mine and (parent != os.getpid() or "fedsim seat" not in words):
                continue
            name = "starter" if mine else words[words.index("fedsim seat") + 1]
            found[name] = (int((path / "statm").read_text().split()[1]) * PAGE, len(list((path / "fd").iterdir())))
        except OSError:
            continue
    return found


def main() -> None:
    looks: list[tuple[int, dict[str, tuple[float, int]]]] = []
    start = time.perf_counter()

    def watch(role: str, row: Mapping[str, Any]) -> None:
        if "loss" in row and row["step"] and row["step"] % (STEPS // 10) == 0:
            looks.append((row["step"], seats()))
            told = ", ".join(f"{name} {rss:.1f} MiB {fds} open" for name, (rss, fds) in sorted(looks[-1][1].items()))
            print(f"step {row['step']}: {told}; {row['step'] / (time.perf_counter() - start):.0f} steps/s", flush=True)

    Processes().run(config.validate(SCENARIO, "soak", {}), watch)
    (first, before), (last, after) = looks[0], looks[-1]
    for name in sorted(before):
        growth, opened = after[name][0] / before[name][0] - 1, after[name][1] - before[name][1]
        each = (after[name][0] - before[name][0]) * 2**20 / (last - first)
        print(
            f"{name}: memory {growth:+.1%} from step {first} to {last} ({each:.0f} bytes a step), descriptors {opened:+d}"
        )


if __name__ == "__main__":
    main()
