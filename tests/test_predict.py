"""``fedsim predict``: new rows in files of every kind, against the run's own probabilities on the same rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from terminal import TABLE, fine, refused, write_table

from fedsim import config
from fedsim.experiment import build
from fedsim.parties.features import FeatureParty
from fedsim.parties.labels import LabelHolder
from fedsim.report.reading import load_seats

PEOPLE = """\
seed: 1
scenario:
  kind: baseline
  data: {kind: csv, path: people.csv, label: bought, test: 0.25, missing: mean}
  parties:
    shop: {columns: [age, "city, state"]}
    bank: {columns: [pay, notes]}
  batch: 16
  steps: 60
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def people() -> pd.DataFrame:
    """A table as users have them: text with commas and quotes, numbers with gaps."""
    rng = np.random.default_rng(0)
    age, pay = rng.integers(18, 80, 200), rng.normal(30, 9, 200)
    table = pd.DataFrame(
        {"age": age.astype(float), "city, state": rng.choice(["Bonn, DE", "Lyon", "New York, NY"], 200)}
    )
    table["pay"], table["notes"] = pay.round(2), rng.choice(["plain", 'a "quoted", word'], 200)
    table["bought"] = np.where(pay + age / 2 > 55, "yes", "no")
    table.loc[::9, "age"] = np.nan
    table.loc[::13, "pay"] = np.nan
    table.loc[::17, "city, state"] = None
    return table


def trained(run: str, data: pd.DataFrame | None = None) -> tuple[torch.Tensor, np.ndarray, list[str]]:
    """The probabilities of the held-out rows, straight from the trained networks; which rows; the classes."""
    (arm,) = config.read(f"{run}/scenario.yaml").arms().values()
    saved, roles = load_seats(Path(run)), build(arm, "", arm)
    hub = roles[arm.plan().hub]
    assert isinstance(hub, LabelHolder)
    parts = []
    for name in arm.scenario.parties:  # type: ignore[attr-defined]
        role = roles[name]
        party = hub.own[0] if isinstance(role, LabelHolder) and hub.own else role
        assert isinstance(party, FeatureParty)
        own = {k.removeprefix("bottom."): v for k, v in saved[name][0].items() if not k.startswith("top.")}
        party.bottom.network.load(own)
        parts.append(party.bottom.network.infer(party.bottom.features["evaluate"]))
    top = {k.removeprefix("top."): v for k, v in saved[arm.plan().hub][0].items() if k.startswith("top.")}
    hub.top.network.load(top)
    from fedsim.seeding import Rng

    _, held_out = arm.scenario.data.split(Rng.root(arm.seed).child("rows"))  # type: ignore[attr-defined]
    found = torch.softmax(hub.top.network.infer(torch.cat(parts, 1)), dim=1)
    return found, held_out, list(hub.classes.classes)


def predicted(*words: str) -> tuple[list[str], list[str], np.ndarray]:
    """Header, predictions and probabilities as ``fedsim predict`` prints them."""
    lines = list(csv.reader(io.StringIO(fine("predict", *words))))
    assert [line[0] for line in lines[1:]] == [str(i) for i in range(len(lines) - 1)]
    return lines[0], [line[1] for line in lines[1:]], np.array([line[2:] for line in lines[1:]], dtype=float)


@pytest.mark.parametrize("labels", ["server", "bank"])
@pytest.mark.parametrize("exchange", ["split", "shared"])
def test_predictions_are_the_models_own(here: Path, labels: str, exchange: str) -> None:
    people().to_csv("people.csv", index=False)
    (here / "my.yaml").write_text(PEOPLE + f"  labels: {labels}\n  exchange: {exchange}\n")
    assert "nothing was trained" in fine("check", "my.yaml")
    fine("run", "my.yaml", "--out", "one")
    expected, rows, classes = trained("one")
    people().drop(columns="bought").iloc[rows].to_csv("new.csv", index=False)
    header, labels_found, found = predicted("one", "new.csv")
    assert header == ["row", "prediction", "p(no)", "p(yes)"]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert labels_found == [classes[int(row.argmax())] for row in expected]
    assert np.mean(np.array(labels_found) == people().bought.iloc[rows]) > 0.8


def test_the_order_of_columns_and_what_else_is_there_do_not_matter(here: Path) -> None:
    people().to_csv("people.csv", index=False)
    (here / "my.yaml").write_text(PEOPLE)
    fine("run", "my.yaml", "--out", "one")
    whole = fine("predict", "one", "people.csv")
    people()[["notes", "pay", "city, state", "age"]].assign(extra=1).to_csv("new.csv", index=False)
    assert fine("predict", "one", "new.csv") == whole
    fine("predict", "one", "new.csv", "--out", "p.csv")
    assert Path("p.csv").read_text() == whole


def test_a_defence_on_embeddings_holds_for_predictions_too(here: Path) -> None:
    people().to_csv("people.csv", index=False)
    (here / "plain.yaml").write_text(PEOPLE)
    noise = "links: [{to: server, message: Embedding, sender: [{kind: gaussian_noise, sigma: %s}]}]\n"
    clip = "links: [{from: server, message: Gradient, sender: [{kind: clip, norm: 1000}]}]\n"
    (here / "noisy.yaml").write_text(PEOPLE + noise % 50)
    (here / "clipped.yaml").write_text(PEOPLE + clip)  # nothing of its kind flows in a prediction
    for name in ("plain", "noisy", "clipped"):
        fine("run", f"{name}.yaml", "--out", name)
    sure = {name: predicted(name, "people.csv")[1] for name in ("plain", "noisy", "clipped")}
    assert sure["clipped"] == sure["plain"]
    hits = {name: np.mean(np.array(found) == people().bought) for name, found in sure.items()}
    assert hits["plain"] > 0.85
    assert hits["noisy"] < 0.7


def test_the_training_data_are_not_needed_any_more(here: Path) -> None:
    people().to_csv("people.csv", index=False)
    (here / "my.yaml").write_text(PEOPLE)
    fine("run", "my.yaml", "--out", "one")
    whole = fine("predict", "one", "people.csv")
    (here / "people.csv").rename("new.csv")
    assert fine("predict", "one", "new.csv") == whole


def test_new_categories_and_gaps_are_met(here: Path) -> None:
    people().to_csv("people.csv", index=False)
    (here / "my.yaml").write_text(PEOPLE)
    fine("run", "my.yaml", "--out", "one")
    new = pd.DataFrame(
        {"age": [np.nan, 30], "city, state": ["Mars", None], "pay": [20, np.nan], "notes": ["plain", "?"]}
    )
    new.to_csv("new.csv", index=False)
    assert predicted("one", "new.csv")[2].sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_parquet_and_npz(here: Path) -> None:
    pytest.importorskip("pyarrow")
    people().to_parquet("people.parquet", index=False)
    (here / "my.yaml").write_text(PEOPLE.replace("csv", "parquet"))
    fine("run", "my.yaml", "--out", "table")
    expected, rows, _ = trained("table")
    people().drop(columns="bought").iloc[rows].to_parquet("new.parquet", index=False)
    np.testing.assert_allclose(predicted("table", "new.parquet")[2], expected.numpy(), atol=1e-6)

    rng = np.random.default_rng(0)
    x, y = rng.random((80, 8, 8), dtype=np.float32), np.arange(80) % 2
    np.savez("digits.npz", x=x, y=y)
    (here / "img.yaml").write_text(
        "scenario:\n  kind: baseline\n  data: {kind: npz, path: digits.npz, test: 0.25}\n"
        "  parties: {left: {columns: '0:8, 0:4'}, right: {columns: '0:8, 4:8'}}\n  steps: 9\n  batch: 10\n"
    )
    fine("run", "img.yaml", "--out", "images")
    expected, rows, _ = trained("images")
    np.savez("new.npz", x=x[rows])
    (here / "digits.npz").unlink()
    np.testing.assert_allclose(predicted("images", "new.npz")[2], expected.numpy(), atol=1e-6)


def test_what_cannot_be_predicted_is_refused(here: Path) -> None:
    write_table(here / "table.csv")
    (here / "s.yaml").write_text(TABLE)
    fine("run", "s.yaml", "--out", "one")
    fine("run", "s.yaml", "--seeds", "2", "--out", "both")
    (here / "short.csv").write_text("u,w\n1,p\n")
    (here / "text.csv").write_text("u,v,w\nold,1,p\n")
    (here / "none.csv").write_text("u,v,w\n")
    (here / "bytes.csv").write_bytes(bytes(range(256)))
    cases = {
        ("one", "nix.csv"): "no data file 'nix.csv'; looked at: ",
        ("one", "short.csv"): "short.csv has no column 'v'",
        ("one", "text.csv"): "column 'u' must be numeric; found 'old'",
        ("one", "none.csv"): "none.csv has no rows",
        ("one", "bytes.csv"): "bytes.csv",
        ("one", "one"): "no data file 'one'",
        ("both", "table.csv"): "both: a summary over seeds; choose one of its runs: seed-0, seed-1",
        ("nix", "table.csv"): "nix: no such folder; expected the folder of a run",
    }
    for words, line in cases.items():
        assert line in refused("predict", *words)
    assert "nix/p.csv: cannot be written" in refused("predict", "one", "table.csv", "--out", "nix/p.csv")
    (here / "one/model/a.safetensors").write_bytes(b"junk")
    assert "not readable as safetensors" in refused("predict", "one", "table.csv")
    fine("run", "baseline", "--set", "scenario.steps=2", "--out", "memory")
    assert "cannot read 'table.csv'; kinds that can: csv, npz, parquet" in refused("predict", "memory", "table.csv")
