"""``fedsim.run`` takes a scenario in any form, and runs inside an event loop, as a notebook cell does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from small import SMALL

import fedsim
from fedsim.errors import ConfigError
from fedsim.report.reading import load_seats
from fedsim.state import digest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(run: Path) -> dict[str, str]:
    return {role: digest(dict(tensors)) for role, (tensors, _) in load_seats(run).items()}


def values(**more: Any) -> dict[str, Any]:
    return {**SMALL["baseline"], **more}


def test_a_scenario_in_every_form(here: Path) -> None:
    import yaml

    (here / "mine.yaml").write_text(yaml.safe_dump(values(), sort_keys=False))
    forms = {"text": "mine.yaml", "path": here / "mine.yaml", "values": values(), "file": fedsim.read("mine.yaml")}
    found = {name: weights(fedsim.run(form, here / name, pages=False)) for name, form in forms.items()}
    assert all(each == found["text"] for each in found.values())
    assert fedsim.run(values(), pages=False).name.startswith("scenario-")


def test_plain_values_are_checked_as_a_file_is() -> None:
    with pytest.raises(ConfigError, match=r"scenario.*unknown key 'stepz'"):
        fedsim.run({"scenario": {**SMALL["baseline"]["scenario"], "stepz": 3}})
    with pytest.raises(ConfigError, match="no seat 'west'"):
        fedsim.run(values(links=[{"from": "west"}]))


@pytest.mark.parametrize("runtime", ["local", "processes"])
def test_it_runs_inside_an_event_loop(here: Path, runtime: str) -> None:
    async def cell() -> list[Path]:
        one = fedsim.run(values(runtime={"kind": runtime}), here / "one", pages=False)
        await asyncio.sleep(0)  # the loop of the notebook goes on
        several = fedsim.run_seeds(values(runtime={"kind": runtime}), 2, here / "several")
        return [one, several / "seed-0"]

    found = [weights(run) for run in asyncio.run(cell())]
    assert found[0] == found[1] == weights(fedsim.run(values(), here / "outside", pages=False))


def test_what_is_wrong_is_said_inside_an_event_loop_too() -> None:
    async def cell() -> None:
        fedsim.run("no_such_scenario")

    with pytest.raises(ConfigError, match="no_such_scenario"):
        asyncio.run(cell())
