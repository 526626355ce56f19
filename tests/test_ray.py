"""Seats as Ray actors: the same numbers, placement with its arithmetic, plain words when one dies. One Ray serves all."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from listening import addresses, children, words
from own_tables import scenario, write
from small import SMALL, small
from terminal import TABLE, fedsim, write_table

from fedsim.errors import ConfigError, TransportBroken
from fedsim.runtime.ray import Ray
from fedsim.testing import check_runtime

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.mark.parametrize("name", SMALL)
def test_the_same_numbers_as_on_one_event_loop(name: str) -> None:
    check_runtime(Ray(), small(name))
    assert addresses(children(os.getpid())) == {"127.0.0.1"}


def test_the_same_numbers_with_a_table_a_seat(tmp_path: Path) -> None:
    check_runtime(Ray(), scenario(write(tmp_path)))


def test_half_a_gpu_that_torch_does_not_find_is_a_notice_and_the_run_goes_on() -> None:
    shown: list[Mapping[str, Any]] = []
    file = small("baseline", placement={"north": {"gpus": 0.5}, "east": {"gpus": 0.5, "cpus": 0.5}})
    reports = Ray().run(file, lambda role, row: shown.append(row))
    assert [report.role for report in reports] == ["north", "east"]
    assert [row["notice"] for row in shown if "notice" in row] == [
        "torch finds no GPU: north, east will train on the CPU"
    ]
    assert [row for row in shown if "step" in row] == [row for report in reports for row in report.rows]


@pytest.mark.parametrize(
    ("placement", "why"),
    [
        (
            {"north": {"gpus": 0.6}, "east": {"gpus": 0.6}},
            r"too few gpus on this Ray: north 0\.6 \+ east 0\.6 = 1\.2 asked for, 1 free",
        ),
        ({"north": {"cpus": 500}}, r"too few cpus on this Ray: north 500 \+ east 1 = 501 asked for, \d+ free"),
        ({"north": {"lidar": 1}}, "too few lidar on this Ray: north 1 = 1 asked for, 0 free"),
    ],
)
def test_too_little_is_refused_at_once_with_the_sum(placement: Mapping[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Ray().run(small("baseline", placement=placement), lambda role, row: None)


def test_a_seat_that_is_killed_is_named_and_ray_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    endless = {**SMALL["labels"]["scenario"], "steps": 1000000}
    file = small("labels", scenario=endless)
    killed: list[int] = []

    def watch(role: str, row: Mapping[str, Any]) -> None:
        if row.get("step", 0) > 20 and not killed:
            killed.append(next(pid for pid in children(os.getpid()) if "_Actor" in words(pid)))
            os.kill(killed[0], signal.SIGKILL)

    why = r"^the process of (server|north|east) was killed or crashed after training step \d+$"
    with pytest.raises(TransportBroken, match=why):
        Ray().run(file, watch)
    assert capfd.readouterr() == ("", "")


def test_what_is_wrong_at_a_seat_is_said_as_on_one_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE.replace("path: table.csv", f"path: {tmp_path / 'table.csv'}"))
    (tmp_path / "table.csv").write_text("u,v\n1,2\n")
    alone, apart = fedsim("run", "s.yaml"), fedsim("run", "s.yaml", "--runtime", "ray", "--out", "apart")
    assert (apart.code, apart.err.splitlines()[-1]) == (alone.code, alone.err.splitlines()[-1])


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=re.escape("Ray is not installed; pip install 'fedsim-vfl[ray]'")):
        Ray().run(small("baseline"), lambda role, row: None)
