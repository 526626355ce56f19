"""What lies in a run folder of a stranger, and what a peer reports, is taken as it should be, or refused in one line."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save, save_file
from small import SMALL, small
from tampering import attempt, change, dump, make_folders, spoil

from fedsim.errors import ContentError
from fedsim.outcome import from_bytes, to_bytes
from fedsim.report import page, reading
from fedsim.report.summary import own, rows
from fedsim.runtime.local import Local
from fedsim.safejson import parse
from fedsim.vfl.modules import limited_tensors


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_folders(tmp_path_factory.mktemp("originals"))


def copy_images(originals: list[Path], place: Path) -> Path:
    (images,) = (path for path in originals if path.name == "images")
    return Path(shutil.copytree(images, place / "run"))


def test_columns_of_a_stranger_make_no_canvas_of_gigabytes(originals: list[Path], tmp_path: Path) -> None:
    run = copy_images(originals, tmp_path)
    page.write([run])
    seats = json.loads((run / "seats.json").read_text())
    seats["arms"]["images"]["seats"]["east"]["columns"] = "150000:999999, 180000:999999"
    (run / "seats.json").write_text(json.dumps(seats))
    with pytest.raises(ContentError, match=r"columns put the parts of 8 images so far apart"):
        page.write([run])


@pytest.mark.parametrize("shape", [(3,), (2000, 1, 4, 4), (2, 1, 0, 4), (1, 1, 1, 1, 1)])
def test_exhibits_of_another_shape_are_refused(originals: list[Path], tmp_path: Path, shape: tuple[int, ...]) -> None:
    run = copy_images(originals, tmp_path)
    for path in run.glob("claims/*/*-shown.safetensors"):
        save_file({"truth": torch.zeros(shape), "claim": torch.zeros(shape)}, path)
    with pytest.raises(ContentError, match="rows of shape"):
        page.write([run])


def test_sizes_are_counted_before_memory_is_taken() -> None:
    with limited_tensors(200):
        torch.nn.Linear(10, 10)
        with pytest.raises(ValueError, match="far more parameters"):
            torch.nn.Linear(1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("[" * 70 + "]" * 70, "nested too deeply"),
        ("9" * 5000, "a number of 5000 digits"),
        ("1e999", "the number 1e999"),
        ("NaN", "no number of JSON"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('["\\ud800"]', "half a character"),
        (b"\xff", "no text in UTF-8"),
    ],
)
def test_json_beyond_the_limits_is_refused(text: str | bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)


def test_json_within_the_limits_is_what_python_reads() -> None:
    text = json.dumps({"a": [1, -2.5, None, True, "\U0001f600", {"b": []}], "c": 10**30})
    assert parse(text) == json.loads(text)


@pytest.fixture(scope="module")
def report() -> Any:
    """The report of a seat with an attack, the plan it belongs to."""
    file = small("labels")
    return next(each for each in Local().run(file, lambda role, row: None) if each.findings), file.plan()


def test_a_report_comes_back_as_it_was(report: Any) -> None:
    mine, plan = report
    theirs = from_bytes(to_bytes(mine, plan), plan)
    assert (theirs.role, theirs.rows, theirs.describe, theirs.traffic) == (
        mine.role,
        mine.rows,
        mine.describe,
        mine.traffic,
    )
    assert theirs.findings[0].aim == mine.findings[0].aim


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_a_peers_report_that_is_none_is_one_error(report: Any, first: int) -> None:
    mine, plan = report
    block = to_bytes(mine, plan)
    refused = 0
    for number in range(first, first + 100):
        draw = random.Random(number)
        if number % 4 == 0:
            changed = spoil(block, draw)
        else:
            tensors = load(block)
            plain = json.loads(tensors["plain"].numpy().tobytes())
            text = dump(change(plain, draw)).encode()
            changed = save({**tensors, "plain": torch.frombuffer(bytearray(text), dtype=torch.uint8)})
        said = ""
        try:
            from_bytes(changed, plan)
        except ContentError as error:
            said = str(error)
            refused += 1
        assert (said.count("\n"), len(said) < 500) == (0, True)
    assert refused > 20


def test_what_a_seat_says_is_filed_under_its_name(report: Any) -> None:
    mine, _ = report
    other = replace(mine, rows=[{"role": "server", "arm": "x", "step": 0}], stages=[{"seat": "server"}])
    assert rows([other]) == [{"role": mine.role, "arm": "x", "step": 0}]
    assert own(other.stages[0], seat=mine.role) == {"seat": mine.role}


def test_a_report_speaks_for_no_other_seat(report: Any) -> None:
    mine, plan = report
    with pytest.raises(ContentError, match="is none of"):
        from_bytes(to_bytes(replace(mine, role=next(role for role in plan.seats if role != mine.role)), plan), plan)
    with pytest.raises(ContentError, match="no seat 'nobody'"):
        from_bytes(to_bytes(replace(mine, role="nobody", findings=[]), plan), plan)


@pytest.mark.parametrize(
    ("first", "count"),
    [(0, 60), pytest.param(0, 10_000, marks=pytest.mark.slow)],
)
def test_a_folder_with_one_change_is_taken_or_refused_in_one_line(
    originals: list[Path], tmp_path: Path, first: int, count: int
) -> None:
    refused = sum(bool(attempt(number, originals, tmp_path)[1]) for number in range(first, first + count))
    assert count // 5 < refused < count


def test_every_small_run_is_one_that_the_checks_take(originals: list[Path]) -> None:
    for path in originals:
        assert (reading.read_sweep if reading.is_sweep(path) else reading.read)(path).manifest["status"] == "complete"
    assert SMALL.keys() > {"weight_faults", "best_arm", "appraisal"}
