"""A table for each seat whose cells, ids, categories and labels are found wherever they go, and a search for them."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from fedsim import config
from fedsim.config import ScenarioFile

ROWS = 60
SEATS = ("server", "north", "east")
TOWNS = ("Quellmoorstadt", "Zwetschgenried", "Obertupfing")
OUTCOMES = ("krankgewesen", "gesundgeblieben")
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "scenario": {
        "kind": "leakage",
        "data": {"kind": "tables", "id": "who", "label": "outcome", "test": 0.25},
        "parties": {"north": {"columns": "north*"}, "east": {"columns": "east*"}},
        "bottom": {"kind": "mlp", "hidden": [64]},  # of so many units one fires; else an embedding is the last bias
        "embedding": 4,
        "batch": 10,
        "steps": 6,
        "evaluate": 3,
    },
}
"""Split learning, in which no weights travel."""
ATTACKED: dict[str, Any] = {
    "scenario": {
        **SETTINGS["scenario"],
        "exchange": "shared",
        "bottom": {"kind": "linear"},
        "steps": 12,
        "window": {"from": 0, "rounds": 12},
    },
    "trials": [{"attack": {"kind": "cafe"}, "seat": "server", "victim": "*", "knows": ["rows", "bottom"]}],
    "links": [{"to": "server", "message": "ParameterGradient", "sender": [{"kind": "gaussian_noise", "sigma": 0.1}]}],
}
"""An attack on both parties, whose noise keeps it from what is true to the bit."""


def tables() -> dict[str, pd.DataFrame]:
    """By seat its table; every number has digits enough to stand nowhere else by chance."""
    draw = np.random.default_rng(11)
    who = [f"patient-{7919 * i % 10_000:04}-q" for i in range(ROWS)]
    found = {
        "north": {"north_age": draw.normal(50, 9, ROWS).round(9), "north_town": draw.choice(TOWNS, ROWS)},
        "east": {"east_pulse": draw.normal(70, 9, ROWS).round(9), "east_weight": draw.normal(75, 9, ROWS).round(9)},
        "server": {"outcome": draw.choice(OUTCOMES, ROWS)},
    }
    return {seat: pd.DataFrame({"who": who, **columns}) for seat, columns in found.items()}


def write(folder: Path) -> dict[str, str]:
    """Write each seat's table into a folder of its own; the paths by seat."""
    paths = {}
    for seat, table in tables().items():
        path = folder / seat / f"{seat}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)
        paths[seat] = str(path)
    return paths


def scenario(files: Mapping[str, str], **changes: Any) -> ScenarioFile:
    """The scenario over such files; in a deployment each seat's own settings say where its file lies."""
    plain = {**SETTINGS, "name": "marked", **changes}
    data = {**SETTINGS["scenario"]["data"], "files": dict(files)}
    return config.validate({**plain, "scenario": {**plain["scenario"], "data": data}}, "marked", {})


def marks(*seats: str) -> dict[str, bytes]:
    """By name every form in which something of these seats may be written: as text, as numbers, encoded, in base64."""
    found: dict[str, bytes] = {}
    for seat in seats:
        for column, cells in tables()[seat].items():
            values = cells.to_numpy()
            if values.dtype == float:
                for row, value in enumerate(values.tolist()):
                    found |= _numbers(f"{seat}.{column}[{row}]", value)
            else:
                found |= {f"{seat}: {text}": text.encode() for text in dict.fromkeys(values.tolist())}
    return {**found, **{f"{name}, base64 at {i}": each for name, mark in found.items() for i, each in _base64(mark)}}


def marks_of(name: str, tensor: Tensor) -> dict[str, bytes]:
    """The same of a tensor: each of its numbers but those that stand anywhere, such as 0 and 1."""
    found: dict[str, bytes] = {}
    for i, value in enumerate(tensor.flatten().tolist()):
        if isinstance(value, float) and value != round(value, 2):
            found |= _numbers(f"{name}[{i}]", value)
    return {**found, **{f"{name}, base64 at {i}": each for name, mark in found.items() for i, each in _base64(mark)}}


def _numbers(name: str, value: float) -> dict[str, bytes]:
    """A number in the forms of which four bytes at a place say enough; of a float32 the text has all its digits."""
    forms = {"float32": struct.pack("<f", value), "float64": struct.pack("<d", value)}
    forms |= {"float64, big end first": struct.pack(">d", value), "text": json.dumps(value).encode()}
    return {f"{name} as {form}": block for form, block in forms.items()}


def _base64(mark: bytes) -> Iterable[tuple[int, bytes]]:
    """What is sure to stand in base64 of a text that holds the mark, at each of three places; short ones prove nothing."""
    for i in range(3):
        block = base64.b64encode(bytes(i) + mark)
        inner = block[{0: 0, 1: 2, 2: 3}[i] :]
        inner = inner.rstrip(b"=")[: -1 - (len(mark) + i) % 3 if (len(mark) + i) % 3 else None]
        if len(inner) >= 8:
            yield i, inner


def search(places: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> set[str]:
    """Which of the marks stand where: ``<place>: <mark>``.

    One number of four bytes may stand somewhere by chance: it counts if there is another one beside it in the same place.
    """
    found: set[str] = set()
    for place, block in places.items():
        here = {name for name, mark in wanted.items() if mark in block}
        short = {name for name in here if len(wanted[name]) <= 4}
        found |= {f"{place}: {name}" for name in (here if len({wanted[name] for name in short}) > 1 else here - short)}
    return found


def read_folder(folder: Path) -> dict[str, bytes]:
    """All files below a folder, their names as well."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): str(path).encode() + b"\n" + path.read_bytes() for path in paths}
