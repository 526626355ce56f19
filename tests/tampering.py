"""Run folders that somebody has tampered with: each is a small run with one change, which a command takes, or says why not.

Usage: ``python tests/tampering.py COUNT [FIRST]`` tries COUNT changes from number FIRST on, and prints each that ended in
anything but a page or one line of an error. A change follows from its number alone.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from small import SMALL

from fedsim import config, experiment
from fedsim.cli.predicting import write_predictions
from fedsim.cli.sweeping import print_sweep
from fedsim.cli.tables import print_results
from fedsim.errors import FedsimError
from fedsim.report import diff, figures, page, reading, seat_page, sweep_page
from fedsim.report.folder import RunFolder
from fedsim.report.summary import Arm
from fedsim.runtime.local import Local
from fedsim.sweep.play import sweep

NOISE = {"links": [{"to": "server", "message": "Embedding", "sender": [{"kind": "gaussian_noise", "sigma": 0.1}]}]}
SPLIT: dict[str, Any] = SMALL["labels"]
IMAGES: dict[str, Any] = {
    "scenario": {
        "kind": "leakage",
        "exchange": "shared",
        "data": {"kind": "sklearn", "name": "digits", "rows": 40, "test": 12},
        "parties": {"north": {"columns": "0:4, 0:8"}, "east": {"columns": "4:8, 0:8"}},
        "bottom": {"kind": "linear"},
        "embedding": 4,
        "batch": 10,
        "steps": 6,
        "evaluate": 3,
    },
    "trials": [
        {
            "attack": {"kind": "dlg", "batches": 1, "iterations": 2},
            "seat": "server",
            "victim": "*",
            "knows": ["rows", "bottom"],
        }
    ],
}
GRID = {"scenario.batch": [10, 8], "scenario.embedding": [4, 3]}
SWEPT: dict[str, Any] = {**SPLIT, "sweep": {"grid": GRID, "seeds": 1, "pack": False}}
BOTH = {"compare": {"plain": {}, "noisy": NOISE}}

OTHERS: list[Any] = [
    None, True, False, 0, 1, -1, 7, 2.5, -0.0, 1e-320, 1e149, -1e149, 1e300, 10**30, 10**59, 10**4000, float("nan"),
    float("inf"), "", "x", "north", "server", "../../x", "/etc/passwd", "$x_{", "\x00", "\x1b[31m", "\ud800", "<b>", "9" * 5000,
    "y" * 3000, "0:9, 999999:999999", "5:9, 900000:900000", "2026-01-01T00:00:00", [], {}, [None], [[]], ["x", 1], [1e149] * 3,
    list(range(2000)), {"x": 1}, {"mean": 1.0, "low": None, "high": None, "n": 1, "values": []}, {"kind": "x"}, {"kind": ["x"]},
]  # fmt: skip


_drawn: dict[str, Any] = {}


def once(draw: Any, key: Any) -> Any:
    """A function that draws, which is not asked twice for the same: of a page most of the time goes into pictures."""

    def drawn(*args: Any) -> Any:
        said = f"{draw.__name__} {key(*args)!r}"
        if said not in _drawn:
            _drawn[said] = draw(*args)
        return _drawn[said]

    return drawn


def draw_once() -> None:
    """Have the pictures of all pages from now on drawn once as long as what is in them stays the same."""
    page.curves = once(page.curves, lambda views: [(v.name, v.rows, v.numbers["task"], v.baseline) for v in views])
    figures._picture = once(figures._picture, lambda panels, arms: ([(v.name, each) for v, each in panels], arms))
    sweep_page.pareto = once(sweep_page.pareto, dict)
    sweep_page.along = once(sweep_page.along, dict)
    page.environment = sweep_page.environment = seat_page.environment = functools.cache(page.environment)


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def make_folders(home: Path) -> list[Path]:
    """Small runs of every form, which have everything that is read."""
    made = {
        "split": {**SPLIT, **BOTH},
        "images": IMAGES,
        "faults": SMALL["weight_faults"],
        "choice": SMALL["best_arm"],
        "figures": SMALL["appraisal"],
    }
    for name, plain in made.items():
        experiment.run(
            config.validate({"name": name, **plain}, name, {}), home / name, command=["fedsim", "run", "/a/b c"]
        )
    make_part(home / "part")
    seeds = config.validate({"name": "seeds", **SPLIT, **BOTH}, "seeds", {})
    experiment.run_seeds(seeds, 2, home / "seeds")
    sweep(config.validate({"name": "swept", **SWEPT}, "swept", {}), home / "swept")
    return [home / name for name in (*made, "part", "seeds", "swept")]


def make_part(path: Path) -> None:
    """The run folder of one seat, which was attacked."""
    file = config.validate({"name": "part", **IMAGES}, "part", {})
    reports = Local().run(file, lambda role, row: None)
    findings = [finding for report in reports for finding in report.findings if finding.aim.victim == "north"]
    mine = next(replace(report, judged=findings) for report in reports if report.role == "north")
    with RunFolder.open_for(path, file) as folder:
        folder.write([Arm("part", file, [mine], 1.0)])
        folder.write_page(seat_page.render(folder.conclude()))


def descend(node: Any, draw: random.Random) -> tuple[Any, ...]:
    """The path of some value; each name of an object is as likely as another, however much is below it."""
    if not isinstance(node, dict | list) or not node or draw.random() < 0.1:
        return ()
    key = draw.choice([*node]) if isinstance(node, dict) else draw.randrange(len(node))
    return (key, *descend(node[key], draw))


def change(root: Any, draw: random.Random) -> Any:
    """Plain values with one change."""
    root = copy.deepcopy(root)
    path = descend(root, draw)
    if not path:
        return draw.choice([*OTHERS, nested(70), nested(2000)])
    holder = root
    for key in path[:-1]:
        holder = holder[key]
    key, what = path[-1], draw.randrange(6)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder.insert(key, holder[draw.randrange(len(holder))])
    elif what == 1:
        holder[str(draw.choice(["x", "", "north", "\x00", "y" * 3000, *holder]))] = holder.pop(key)
    elif what == 2:
        other = descend(root, draw)
        value = root
        for step in other:
            value = value[step]
        holder[key] = copy.deepcopy(value)
    else:
        holder[key] = draw.choice([*OTHERS, nested(draw.choice([70, 2000]))])
    return root


def spoil(content: bytes, draw: random.Random) -> bytes:
    """Bytes with one change."""
    at, what = draw.randrange(len(content) + 1), draw.randrange(4)
    if what == 0:
        return content[:at]
    if what == 1:
        return content[:at] + draw.randbytes(draw.choice([1, 8, 100])) + content[at:]
    if what == 2:
        return content[:at] + content[at + draw.choice([1, 8, 100]) :]
    return (
        content[:at] + bytes([content[at : at + 1][0] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
        if content[at:]
        else b""
    )


def dump(value: Any) -> str:
    """JSON, however deep."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(4300)
        sys.setrecursionlimit(before)


def tamper(folder: Path, draw: random.Random) -> str:
    """Change one file of a run; says which."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in (".html", ".md")]
    weights = [0.2 if "model" in path.parts or "trials" in path.parts else 1.0 for path in files]
    path = draw.choices(files, weights)[0]
    content = path.read_bytes()
    if path.suffix == ".safetensors" or draw.random() < 0.1:
        path.write_bytes(spoil(content, draw))
    elif path.suffix == ".jsonl":
        lines = content.decode().splitlines()
        at = draw.randrange(len(lines))
        lines[at] = dump(change(json.loads(lines[at]), draw))
        path.write_text("\n".join(lines) + "\n")
    else:
        plain = yaml.safe_load(content) if path.suffix == ".yaml" else json.loads(content)
        path.write_text(dump(change(plain, draw)))
    return str(path.relative_to(folder))


def use(folder: Path, original: Path, draw: random.Random) -> list[str]:
    """The page of a folder, and one more command that reads it; the line of each refusal."""
    said = []
    rows = folder.parent / "rows.csv"
    rows.write_text(",".join(f"c{i}" for i in range(8)) + "\n" + "1,2,3,4,5,6,7,8\n")
    commands: list[Any] = [
        lambda: sweep_page.write(folder) if reading.is_sweep(folder) else page.write([folder]),
        lambda: page.write([original, folder], folder / "comparison.html"),
        lambda: diff.diff(reading.read(original), reading.read(folder)).lines(),
        lambda: print_sweep(folder) if reading.is_sweep(folder) else print_results(folder),
        lambda: write_predictions(folder, str(rows), [], [], folder / "predictions.csv"),
    ]
    if folder.name == "part":
        commands = [lambda: seat_page.write([folder]), commands[0]]
    if folder.name == "swept":
        commands = [commands[0], commands[3]]
    for command in (commands[0], *draw.choices(commands[1:], [1] if len(commands) == 2 else [1, 4, 4, 4])):
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                command()
        except FedsimError as error:
            line = str(error)
            if "\n" in line or len(line) > 2000:
                raise AssertionError(f"not a line: {line[:300]!r}") from error
            said.append(line)
    return said


def attempt(number: int, originals: list[Path], home: Path) -> tuple[str, list[str]]:
    """Try the change of a number: which file it was in, and what was refused."""
    draw = random.Random(number)
    original = draw.choice(originals)
    folder = home / original.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("report.html"))
    where = tamper(folder, draw)
    return f"{original.name}/{where}", use(folder, original, draw)


def main(count: int, first: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    broken, seen, begun = 0, Counter[str](), time.monotonic()
    draw_once()
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "whole").mkdir()
        originals = make_folders(Path(place) / "whole")
        for number in range(first, first + count):
            try:
                _, said = attempt(number, originals, Path(place))
                seen["refused" if said else "taken"] += 1
            except Exception:
                broken += 1
                print(f"change {number}:\n{traceback.format_exc(limit=-4)}", flush=True)
            if (number - first) % 100 == 99:
                print(f"{number - first + 1} after {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{count} changes from {first} on: {dict(seen)}, {broken} ended otherwise")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])))
