"""A table a seat: the same numbers whatever the order, the format and the key; plain words; no id to be seen anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from own_tables import COLUMNS, MARK, MORE, people, played, scenario, write
from terminal import fedsim, fine, refused

from fedsim import config, experiment
from fedsim.config import ScenarioFile
from fedsim.errors import ConfigError, DataError, ProtocolError
from fedsim.net import Net
from fedsim.parties.align import Common, Ids, align, normal
from fedsim.plan import Secrets
from fedsim.runtime.local import Local, memory, play_all
from fedsim.runtime.processes import Processes
from fedsim.seeding import Rng
from fedsim.testing import check_runtime
from fedsim.transport.memory import MemoryNetwork
from fedsim.transport.wrappers import Record

ROOT = Path(__file__).parent.parent


def run(file: ScenarioFile) -> dict[str, str]:
    return played(file, {})


# -- the numbers


@pytest.mark.parametrize("labels", ["server", "east"])
def test_the_numbers_are_those_of_one_table_with_the_common_rows_by_id(tmp_path: Path, labels: str) -> None:
    table = people()
    paths = write(tmp_path)
    if labels == "east":
        own = pd.read_csv(paths["east"]).merge(table[["number", "ill"]], on="number")
        own.to_csv(paths["east"], index=False)
        del paths["server"]
    common = table.iloc[:80] if labels == "server" else table.iloc[[*range(85)]]
    common.sort_values("number").drop(columns=["number", "height"]).to_csv(tmp_path / "joined.csv", index=False)
    joined = {"kind": "csv", "path": str(tmp_path / "joined.csv"), "label": "ill", "test": 0.25}
    assert run(scenario(paths, labels=labels)) == run(scenario(labels=labels, data=joined))


def test_neither_order_nor_format_nor_key_changes_a_bit(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    expected = run(scenario(write(tmp_path / "one")))
    assert run(scenario(write(tmp_path / "two", shuffle=9))) == expected
    assert run(scenario(write(tmp_path / "three", form="npz"))) == expected
    assert run(scenario(write(tmp_path / "four", shuffle=4, form="parquet"))) == expected
    file = scenario(write(tmp_path / "five", shuffle=2))
    assert played(file, dict.fromkeys(COLUMNS, Secrets(ids=b"another key"))) == expected


def test_a_process_a_seat_gives_the_same_numbers_and_says_what_was_left_out(tmp_path: Path) -> None:
    file, seen = scenario(write(tmp_path)), list[Any]()
    check_runtime(Processes(), file)
    for report in Local().run(file, lambda role, row: seen.append(row)):
        assert report.describe["left_out"] == len(MORE[report.role])
        assert report.describe["rows"] == {"train": 60, "test": 20}
    assert {"notice": "80 rows are at every seat; left out: 10 of server, 15 of north, 5 of east"} in seen


def test_statistics_are_of_a_partys_own_training_rows(tmp_path: Path) -> None:
    file = scenario(write(tmp_path))
    (north,) = [report for report in Local().run(file, lambda role, row: None) if report.role == "north"]
    common = people().iloc[:80].sort_values("number").reset_index(drop=True)
    joined = scenario(data={"kind": "synthetic", "count": 80, "test": 0.25})
    train, _ = joined.scenario.data.split(Rng.root(3).child("rows"))  # type: ignore[attr-defined]
    age, sex = north.sidecar["encoder"]["columns"]
    assert age["mean"] == pytest.approx(common["age"].iloc[train].mean(), rel=1e-12)
    assert sex["categories"] == ["f", "m"]
    assert [column["name"] for column in north.sidecar["encoder"]["columns"]] == ["age", "sex"]  # and no other


# -- the ids


def test_no_id_travels_and_none_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = scenario(write(tmp_path / "data"))
    ways = {role: Record(way) for role, way in memory(file.plan()).items()}
    asyncio.run(play_all(file, ways))
    frames = [frame for way in ways.values() for _, frame in way.sent]
    ids = [number.removeprefix(MARK).encode() for number in people()["number"]]
    early = [frame for way in ways.values() for _, frame in way.sent[:4]]  # in all the rest four digits may well occur
    assert sum(b"Ids" in frame for frame in frames) == 2
    assert [frame for frame in frames if MARK.encode() in frame] == []
    assert [number for number in ids if any(number in frame for frame in early)] == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(json.dumps(file.resolved()))
    said = fedsim("run", "own.yaml", "--runtime", "processes", "--out", "run")
    assert said.code == 0, said.err
    left = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [each for each in [*left, said.out.encode(), said.err.encode()] if MARK.encode() in each] == []
    html = (tmp_path / "run/report.html").read_text()
    assert "15 rows left out: not at every seat" in html
    assert '"left_out": 15' in (tmp_path / "run/seats.json").read_text()


def test_a_hash_depends_on_the_key_and_ids_are_compared_as_text() -> None:
    assert normal(" 7 ") == normal("7") != normal("007")
    assert normal("Ame\u0301lie") == normal("Am\u00e9lie")
    one, other = (_sent(["7", "8"], key) for key in (b"one", b"other"))
    assert one.hashes.shape == (2, 16)
    assert not set(map(tuple, one.hashes.tolist())) & set(map(tuple, other.hashes.tolist()))


def _sent(ids: list[str], key: bytes) -> Ids:
    """What a seat sends of its ids; the hub answers that all of them are common."""

    async def both() -> Ids:
        nets = _nets()
        task = asyncio.create_task(align(ids, nets["north"], key))
        said = await nets["hub"].recv("north", Ids, 0)
        await nets["hub"].send("north", Common(0, torch.ones(len(ids), dtype=torch.bool), purpose="query"))
        await task
        return said

    return asyncio.run(both())


def _nets() -> dict[str, Net]:
    network = MemoryNetwork(["hub", "north"])
    return {role: Net(role, "hub", ["hub", "north"], network.transport(role)) for role in ("hub", "north")}


def _ids(hashes: list[list[int]], dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.tensor([row * 16 for row in hashes], dtype=dtype)


@pytest.mark.parametrize(
    ("hashes", "why"),
    [
        (_ids([[2], [1]]), "north sent ids that are not in ascending order"),
        (_ids([[1], [1]]), "each once"),
        (_ids([[1]])[:, :8], r"north sent ids as \(1, 8\); expected \(rows, 16\) of uint8"),
        (_ids([[1]], torch.int64), "of uint8"),
    ],
)
def test_hashes_that_cannot_be_are_refused(hashes: torch.Tensor, why: str) -> None:
    mark = _sent(["7"], b"key").mark

    async def both() -> None:
        nets = _nets()
        await nets["north"].send("hub", Ids(0, hashes, mark, purpose="query"))
        await align(["7"], nets["hub"], b"key")

    with pytest.raises(ProtocolError, match=why):
        asyncio.run(both())


@pytest.mark.parametrize("answer", [torch.ones(3, dtype=torch.bool), torch.ones(2), torch.ones(2, 1, dtype=torch.bool)])
def test_an_answer_that_cannot_be_is_refused(answer: torch.Tensor) -> None:
    async def both() -> None:
        nets = _nets()
        await nets["hub"].send("north", Common(0, answer, purpose="query"))
        await align(["7", "8"], nets["north"], b"key")

    with pytest.raises(ProtocolError, match="hub answers 2 hashes of north with"):
        asyncio.run(both())


def test_another_key_is_named_and_a_secret_without_a_key_refused(tmp_path: Path) -> None:
    file = scenario(write(tmp_path))
    keys = {"server": Secrets(ids=b"one"), "north": Secrets(ids=b"one"), "east": Secrets(ids=b"other")}
    with pytest.raises(ProtocolError, match="east hashes its ids with another key than server"):
        played(file, keys)
    with pytest.raises(ConfigError, match="has a secret of its own, but no key to hash ids with; expected both"):
        played(file, dict.fromkeys(COLUMNS, Secrets(own=b"mine")))


# -- what cannot be used


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.rename(columns={"number": "no"}), "{path} at north has no column 'number'; allowed: age, no, sex"),
        (lambda t: t.drop(columns="age"), "{path} at north: the data has no column 'age'; allowed: sex"),
        (lambda t: pd.concat([t, t[:2]]), "id column 'number' of {path} at north repeats an id in 2 rows; every row needs"),
        (lambda t: t.assign(number=None), "id column 'number' of {path} at north has 95 missing cells"),
        (lambda t: t.assign(number=" "), "id column 'number' of {path} at north has 95 empty cells; every row needs"),
        (lambda t: t.assign(number=range(95)), "no id of the 90 rows at server is at every other seat: nothing is left"),
        (lambda t: t.assign(age=[*t["age"][1:], "n/a"]), "column 'age' of {path} at north must be numeric; found 'n/a'"),
        (lambda t: t.assign(age=[*t["age"][1:], None]), "column 'age' of {path} at north has 1 missing cells (NaN)"),
        (lambda t: t[:0], "{path} at north has no rows"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, change: Any, why: str) -> None:
    paths = write(tmp_path)
    change(pd.read_csv(paths["north"])).to_csv(paths["north"], index=False)
    with pytest.raises(DataError, match=f"^{re.escape(why.format(path=paths['north']))}") as error:
        run(scenario(paths))
    assert MARK not in str(error.value)


def test_settings_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drop, same = "scenario.data.drop=[height]", "scenario.data.label=patient"
    assert "drop: expected nothing; columns that a party does not name are not read" in refused(
        "check", "tables", "--set", drop
    )
    assert "id and label: expected two columns, found 'patient' for both" in refused("check", "tables", "--set", same)


def test_a_cell_of_another_format_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, form="npz")
    np.savez(paths["north"], number=np.array(["1"]), age=np.zeros((1, 2)), sex=np.array(["f"]))
    with pytest.raises(
        DataError, match=r"'age' of .*north.npz at north is float64 of shape \(1, 2\); allowed: numbers"
    ):
        run(scenario(paths))


# -- the command line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "own.yaml").write_text(json.dumps(scenario().resolved()))
    return tmp_path


def test_check_does_with_the_tables_that_are_here(here: Path) -> None:
    assert "not here, so that rows were not matched: server.csv of server, north.csv of north" in fine(
        "check", "own.yaml"
    )
    paths = write(here / "data")
    Path(paths["north"]).rename(here / "north.csv")
    out = fine("check", "own.yaml")
    assert "not here, so that rows were not matched: server.csv of server, east.csv of east" in out
    assert "columns age, sex" in out
    (here / "north.csv").write_text("number,age\n1,2\n")
    assert refused("check", "own.yaml") == "north.csv at north: the data has no column 'sex'; allowed: age"
    fine("show", "tables")
    assert refused("run", "own.yaml").startswith("the table of server: no data file 'server.csv'; looked at: ")


def test_too_few_ids_in_common_are_named_as_the_reason(here: Path) -> None:
    for seat, path in write(here / "data").items():
        table = pd.read_csv(path, dtype=str)
        (table if seat != "east" else table.sort_values("number").head(8)).to_csv(here / f"{seat}.csv", index=False)
    said = refused("run", "own.yaml")
    assert re.fullmatch(
        r"scenario.batch: 10 rows a batch, but there are only \d training rows: the tables have only 8 ids in common",
        said,
    )


def test_predict_takes_one_table_with_the_columns_of_all(here: Path) -> None:
    for seat, path in write(here / "data").items():
        Path(path).rename(here / f"{seat}.csv")
    fine("run", "own.yaml", "--out", "run")
    people().drop(columns=["number", "ill"]).head(7).to_csv("new.csv", index=False)
    assert len(fine("predict", "run", "new.csv").splitlines()) == 8


def by_hand(paths: Mapping[str, str], *words: str, own: bool = False) -> dict[str, dict[str, Any]]:
    """The summaries of seats that are played by hand, each with its own table, and with its own secret if asked for."""
    started, port = {}, _free_port()
    for role, path in paths.items():
        where = ["--listen" if role == "server" else "--connect", f"127.0.0.1:{port}"]
        more = ["--data", path, "--ids-key", f"keys/{role}/ids", "--token-file", f"keys/{role}/token", *words]
        more += ["--secret", f"keys/{role}/secret"] if own else ["--simulate"]
        command = [sys.executable, "-m", "fedsim", "seat", "own.yaml", "--role", role, *where, *more, "--out", role]
        started[role] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for role, process in started.items():
        said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert MARK not in "".join(said)
        loud = (
            f"own, {role}: {role} SIMULATES: without a secret of its own its noise and its initial weights follow from"
        )
        assert (loud in said[1]) is not own
    return {role: json.loads(Path(role, "summary.json").read_text()) for role in paths}


def traffic(folder: Path) -> list[Any]:
    """Frames and bytes of each kind on each link."""
    (arm,) = json.loads((folder / "seats.json").read_text())["arms"].values()
    found: list[Any] = arm["traffic"]
    return found


def test_seats_by_hand_that_simulate_play_the_run_of_one_process(here: Path) -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    paths = write(here / "data", shuffle=7)
    fine("keys", "own.yaml", "--out", "keys", "--host", "127.0.0.1")
    found = by_hand(paths)
    assert {role: found[role]["weights_sha256"][role] for role in COLUMNS} == run(scenario(paths))
    assert {json.loads((here / role / "manifest.json").read_text())["noise_source"][role] for role in COLUMNS} == {
        "seed"
    }


def test_seats_by_hand_each_with_its_own_table_secret_and_key(here: Path) -> None:
    """What does not depend on initial weights and noise is that of a simulation; the weights are others in every run."""
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    paths = write(here / "data", shuffle=7)
    fine("keys", "own.yaml", "--out", "keys", "--host", "127.0.0.1")
    assert len({(here / "keys" / role / "ids").read_text() for role in COLUMNS}) == 1
    assert len({(here / "keys" / role / name).read_text() for role in COLUMNS for name in ("secret", "ids")}) == 4
    assert {path.stat().st_mode & 0o777 for path in here.glob("keys/*/secret")} == {0o600}
    alone = experiment.run(scenario(paths), here / "alone", pages=False)
    whole = json.loads((alone / "summary.json").read_text())
    weights = [whole["weights_sha256"]]
    for _ in range(2):
        found = by_hand(paths, "--force", own=True)
        assert found["server"]["baseline"] == whole["baseline"]
        assert [line for role in COLUMNS for line in traffic(here / role)] == traffic(alone)
        weights.append({role: found[role]["weights_sha256"][role] for role in COLUMNS})
    assert all(len({each[role] for each in weights}) == 3 for role in COLUMNS)
    keys = [path.read_bytes().strip() for name in ("ids", "secret") for path in (here / "keys").glob(f"*/{name}")]
    left = [path.read_bytes() for role in COLUMNS for path in (here / role).rglob("*") if path.is_file()]
    assert [each for each in left if MARK.encode() in each or any(key in each for key in keys)] == []
    assert {json.loads((here / role / "manifest.json").read_text())["noise_source"][role] for role in COLUMNS} == {
        "secret"
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--secret", "gone"], "secret: gone cannot be read: No such file or directory"),
        (
            ["--simulate", "--secret", "mine"],
            "north has a secret and is to simulate; expected one of them: secret, simulate",
        ),
        (
            [],
            "north has no secret of its own, so that everybody who has the scenario file could subtract its noise; expected a "
            "file that only this seat has (fedsim keys makes one): --secret FILE, or secret='FILE' in the settings of a node "
            "or of the app; --simulate, or simulate=true, to play without",
        ),
        (
            ["--secret", "mine", "--ids-key", "mine"],
            "the seat's secret is the key that ids are hashed with, which every seat knows; expected a secret of the seat's "
            "own: fedsim keys makes both",
        ),
        (
            ["--secret", "token", "--ids-key", "mine"],
            "the secret of seat north is its token, which the hub knows; fedsim keys makes both",
        ),
        (["--simulate", "--ids-key", "empty"], "key of ids: empty is empty"),
        (
            ["--secret", "mine"],
            "this seat has a secret of its own, but no key to hash ids with; expected both or neither",
        ),
        (["--simulate", "--data", "token"], "token at north has no column 'number'; allowed: t"),
    ],
)
def test_what_is_wrong_at_a_seat_is_said_before_it_meets_the_others(here: Path, words: list[str], why: str) -> None:
    (here / "empty").touch()
    (here / "token").write_text("t")
    (here / "mine").write_text("m")
    said = fedsim("seat", "own.yaml", "--role", "north", "--connect", "127.0.0.1:1", "--token-file", "token", *words)
    assert (said.code, said.err) == (2, f"fedsim: {why}\n")


def test_the_recipe_in_the_docs_makes_tables_for_the_scenario_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/tables.md").read_text(), re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-c", blocks[0]], check=True)
    file = config.read("tables", ["scenario.steps=20"])
    assert all(report.describe["left_out"] > 20 for report in Local().run(file, lambda role, row: None))
    assert sorted(os.listdir(tmp_path)) == ["imaging.csv", "pathology.csv", "server.csv"]
