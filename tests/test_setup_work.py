"""Setting up a federation is work that grows with its seats, not with their square: counted in calls, not in seconds."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedsim import config, experiment
from fedsim.runtime.local import Local

FEW, MANY = 12, 36
ATTACK = {"attack": {"kind": "norm_scoring"}, "seat": "p0", "victim": "server", "knows": ["rows"]}
NOISE = {"from": "*", "to": "*", "message": "Embedding", "sender": [{"kind": "gaussian_noise", "sigma": 0.1}]}


def table(path: Path, columns: int) -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(60, columns)).round(3)
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(columns)])
    frame.assign(y=np.where(x[:, 0] > 0, "yes", "no")).to_csv(path, index=False)
    return {"kind": "csv", "path": str(path), "label": "y", "test": 20}


def federation(data: dict[str, Any], parties: int) -> config.ScenarioFile:
    scenario = {
        "kind": "leakage",
        "data": data,
        "parties": {f"p{i}": {"columns": f"x{i}"} for i in range(parties)},
        "bottom": {"kind": "linear"},
        "embedding": 2,
        "batch": 10,
        "steps": 2,
    }
    return config.validate({"name": "x", "scenario": scenario, "links": [NOISE], "trials": [ATTACK]}, "x", {})


def calls(do: Callable[[], object]) -> Counter[str]:
    """How often each function of ours, and each comprehension in it, is entered or resumed."""
    found: Counter[str] = Counter()

    def count(frame: Any, event: str, argument: object) -> None:
        if event == "call" and "fedsim" in (name := frame.f_code.co_filename):
            found[f"{Path(name).name} {frame.f_code.co_name}"] += 1

    sys.setprofile(count)
    try:
        do()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("kind", ["synthetic", "csv"])
def test_calls_grow_with_the_seats(tmp_path: Path, kind: str) -> None:
    """Three times the seats, at most about three times the calls, function by function; nine times would be the square."""
    counted = []
    for parties in (FEW, MANY):
        data = {"kind": "synthetic", "count": 60, "features": parties, "informative": 6, "test": 20}
        if kind == "csv":
            data = table(tmp_path / f"{parties}.csv", parties)
        file = federation(data, parties)
        experiment.rehearse(file)  # imports and caches of classes come but once
        file = federation(data, parties)
        counted.append(calls(lambda file=file: (experiment.rehearse(file), Local().run(file, lambda role, row: None))))
    few, many = counted
    square = {name: (few[name], times) for name, times in many.items() if times > 4.5 * max(few[name], 30)}
    assert not square


def test_the_whole_cut_and_the_plan_are_made_once_for_all_seats(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsim.parties.vertical import Vertical

    made: Counter[str] = Counter()
    for name in ("_seat", "_flows"):
        original = getattr(Vertical, name)

        def counting(self: Any, role: str, name: str = name, original: Any = original) -> Any:
            made[name] += 1
            return original(self, role)

        monkeypatch.setattr(Vertical, name, counting)
    file = federation({"kind": "synthetic", "count": 60, "features": 6, "informative": 6, "test": 20}, 6)
    experiment.rehearse(file)
    Local().run(file, lambda role, row: None)
    assert made == {"_seat": 7, "_flows": 6}


def test_what_is_remembered_follows_the_values() -> None:
    file = federation({"kind": "synthetic", "count": 60, "features": 3, "informative": 3, "test": 20}, 3)
    plan, digest = file.plan(), file.digest()
    assert file.plan() is plan
    other = file.model_copy(update={"seed": 5, "links": (), "trials": ()})
    assert (other.digest() != digest, other.plan().links, other.plan().aims) == (True, (), ())
    assert (file.plan() is plan, file.digest()) == (True, digest)
    fewer = dict(list(file.scenario.parties.items())[:2])  # type: ignore[attr-defined]
    assert (
        len(file.model_copy(update={"scenario": file.scenario.model_copy(update={"parties": fewer})}).plan().seats) == 3
    )
    assert file.model_copy() == config.validate(file.resolved(), "x", {})


def test_a_table_that_has_changed_is_read_again(tmp_path: Path) -> None:
    from fedsim.parties.data._raw import read_names, read_raw

    path = tmp_path / "t.csv"
    for text in ("a,b\n1,2\n", "a,b\n3,4\n", "a,c\n3,4\n"):
        path.write_text(text)
        names = read_names(path)
        assert [read_raw(path, [name], "t").cells[name][0] for name in names] == text.split()[1].split(",")
