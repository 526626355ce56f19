"""Who is treated how: as fairlearn has it on the joined predictions, with nothing but sums over groups on the wire."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import own_tables
import pandas as pd
import pytest
import torch
from people import FAIR, SCENARIO, make_file, table
from scipy.stats import binomtest

from fedsim.config import ScenarioFile, read, validate
from fedsim.errors import ConfigError, DataError, ProtocolError
from fedsim.experiment import build
from fedsim.message import Message
from fedsim.outcome import SeatReport
from fedsim.parties.appraisal import GroupSums, Outcomes
from fedsim.parties.appraisal.groups import differences, disclosed, rates, sums
from fedsim.parties.appraisal.hub import _checked
from fedsim.runtime.local import memory, play_all
from fedsim.seeding import Rng
from fedsim.transport.base import Transport
from fedsim.transport.wrappers import Record
from fedsim.wire import decode

metrics = pytest.importorskip("fairlearn.metrics", reason="needs fedsim-vfl[card]")
CURRENT_DATA = Path(os.environ.get("FEDSIM_DATA", "."))
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")


def run(file: ScenarioFile) -> tuple[dict[str, SeatReport], dict[str, list[tuple[str, bytes]]]]:
    """What each seat reports, and every frame that it sent."""
    recorded = {role: Record(transport) for role, transport in memory(file.plan()).items()}
    transports: dict[str, Transport] = dict(recorded)
    reports = asyncio.run(play_all(file, transports))
    return {report.role: report for report in reports}, {role: each.sent for role, each in recorded.items()}


def messages(sent: list[tuple[str, bytes]]) -> list[Message]:
    return [decode(frame).message for _, frame in sent]


def joined(file: ScenarioFile, reports: dict[str, SeatReport]) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true classes of the held-out rows, by the whole network in one place."""
    roles: dict[str, Any] = build(file, "", file)
    hub = file.plan().hub
    parts = []
    for name in file.scenario.parties:  # type: ignore[attr-defined]
        role = roles[name].own[0] if name == hub else roles[name]
        own = {k.removeprefix("bottom."): t for k, t in reports[name].tensors.items() if not k.startswith("top.")}
        role.bottom.network.load(own)
        parts.append(role.bottom.network.infer(role.bottom.features["evaluate"]))
    top = roles[hub].top.network
    top.load({k.removeprefix("top."): t for k, t in reports[hub].tensors.items() if k.startswith("top.")})
    return top.infer(torch.cat(parts, 1)).argmax(1).numpy(), roles[hub].held_out.numpy()


def held_out(file: ScenarioFile, raw: pd.DataFrame) -> pd.DataFrame:
    _, rows = file.scenario.data.split(Rng.root(file.seed).child("rows"))  # type: ignore[attr-defined]
    return raw.iloc[rows]


def figure(report: SeatReport, column: str) -> dict[str, dict[str, float]]:
    """The table of one column: by line, values by heading; ends of intervals by ``rate from``, ``rate to``."""
    (found,) = [each for each in report.figures if each["title"] == f"Fairness by {column}"]
    heads, last = [], ""
    for head in found["columns"]:
        last = head if head not in ("from", "to") else last
        heads.append(last if head == last else f"{last} {head}")
    return {
        name: dict(zip(heads, values, strict=True)) for name, values in zip(found["rows"], found["values"], strict=True)
    }


def check_against_fairlearn(file: ScenarioFile, reports: dict[str, SeatReport], raw: pd.DataFrame, owner: str) -> None:
    guess, truth = joined(file, reports)
    scores = reports[file.plan().hub].rows[-1]["test"]
    for column in file.scenario.fairness.by:  # type: ignore[attr-defined]
        group = held_out(file, raw)[column].to_numpy(dtype=str)
        shown = figure(reports[owner], column)
        kept = np.isin(group, list(shown))
        assert kept.any()
        frame = metrics.MetricFrame(
            metrics={name: getattr(metrics, name) for name in RATES},
            y_true=truth[kept],
            y_pred=guess[kept],
            sensitive_features=group[kept],
        )
        for name, row in frame.by_group.iterrows():
            for rate in RATES:
                value = shown[str(name)][rate.replace("_", " ")]
                assert value == pytest.approx(row[rate], abs=1e-9)
                low, high = (shown[str(name)][f"{rate.replace('_', ' ')} {end}"] for end in ("from", "to"))
                assert low <= value + 1e-9
                assert value - 1e-9 <= high
        common = {"y_true": truth[kept], "y_pred": guess[kept], "sensitive_features": group[kept]}
        parity, odds = (metrics.demographic_parity_difference(**common), metrics.equalized_odds_difference(**common))
        assert scores[f"demographic_parity_{column}"] == pytest.approx(parity, abs=1e-9)
        assert scores[f"equalised_odds_{column}"] == pytest.approx(odds, abs=1e-9)


@pytest.mark.parametrize("labels", ["server", "office", "town"])
def test_figures_are_those_of_fairlearn_on_the_joined_predictions(labels: str, tmp_path: Path) -> None:
    file = make_file(tmp_path, fairness=FAIR, labels=labels)
    reports, _ = run(file)
    check_against_fairlearn(file, reports, table(), "town")


def test_adult_with_three_parties_agrees_with_fairlearn() -> None:
    if not (CURRENT_DATA / "adult.csv.gz").exists():
        pytest.skip("adult.csv.gz is not in the folder that FEDSIM_DATA names")
    short = ["compare={}", "trials=[]", "scenario.worth=null", "scenario.resilience=null", "scenario.steps=60"]
    file = read("adult_card", [*short, "scenario.evaluate=60"])
    reports, _ = run(file)
    check_against_fairlearn(file, reports, pd.read_csv(CURRENT_DATA / "adult.csv.gz"), "person")
    assert len(figure(reports["person"], "race")) == 5 + 2


def test_no_value_of_a_sensitive_column_is_on_the_wire(tmp_path: Path) -> None:
    raw = table()
    apart = {"drop": ["sex"], "kind": "csv", "label": "paid", "test": 240}
    parties = {**SCENARIO["parties"], "town": {"columns": "age, region"}}
    asked = {"by": ["sex"], "at": {"sex": "town"}, "at_least": 20}

    def play(folder: Path, rows: pd.DataFrame) -> Any:
        folder.mkdir()
        rows.to_csv(folder / "people.csv", index=False)
        file = make_file(folder, parties=parties, fairness=asked, data={**apart, "path": str(folder / "people.csv")})
        return file, *run(file)

    file, reports, sent = play(tmp_path / "one", raw)
    (outcomes,) = [m for m in messages(sent["server"]) if isinstance(m, Outcomes)]
    _, rows = file.scenario.data.split(Rng.root(3).child("rows"))
    cell = 2 * outcomes.selected.numpy() + outcomes.positive.numpy()
    sex = raw.sex.to_numpy()[rows]
    same = np.nonzero((cell == cell[0]) & (sex != sex[0]))[0][:1]
    swapped = raw.copy()
    swapped.loc[rows[[0, *same]], "sex"] = sex[[*same, 0]]
    assert (swapped.sex != raw.sex).sum() == 2
    _, _, others = play(tmp_path / "two", swapped)
    assert others == sent  # who of two alike people is in which group: not a bit of any frame tells

    for frames in sent.values():
        assert not [frame for _, frame in frames if any(v in frame for v in (b"umber", b"zaffre", b"islet"))]
    kinds = {message.kind() for message in messages(sent["town"])}
    assert kinds == {"Hello", "Rows", "Embedding", "GroupSums"}
    (counts,) = [m.counts for m in messages(sent["town"]) if isinstance(m, GroupSums)]
    assert (tuple(counts.shape), int(counts.sum())) == ((2, 4), 240)
    assert figure(reports["town"], "sex").keys() == {
        "umber", "zaffre", "demographic parity difference", "equalised odds difference",
    }  # fmt: skip


def test_a_group_below_the_minimum_is_withheld_everywhere(tmp_path: Path) -> None:
    reports, sent = run(make_file(tmp_path, fairness=FAIR))
    small = held_out(make_file(tmp_path), table()).region.value_counts()
    assert small["islet"] < 20
    assert small["atoll"] < 20
    shown = figure(reports["town"], "region")
    assert {"islet", "atoll"}.isdisjoint(shown)
    sent_sums = [m.counts for m in messages(sent["town"]) if isinstance(m, GroupSums)]
    assert small["islet"] + small["atoll"] >= 20  # or the hub could take what is withheld from the total
    assert sorted(sent_sums[1].sum(dim=1).tolist()) == sorted(small.nlargest(2).tolist())
    (note,) = [each["note"] for each in reports["town"].figures if each["title"] == "Fairness by region"]
    assert f"Withheld: 2 groups with {small['islet'] + small['atoll']} rows in all." in note


def test_what_is_withheld_cannot_be_told_from_the_total() -> None:
    def held(sizes: dict[str, int], least: int) -> set[str]:
        found = {name: np.array([size, 0, 0, 0]) for name, size in sizes.items()}
        return set(sizes) - set(disclosed(found, least))

    assert held({"a": 90, "b": 60, "c": 70}, 50) == set()
    assert held({"a": 90, "b": 40, "c": 70}, 50) == {"b", "c"}
    assert held({"a": 90, "b": 40, "c": 30}, 50) == {"b", "c"}
    assert held({"a": 90, "b": 20, "c": 10, "d": 95}, 50) == {"b", "c", "a"}
    assert held({"a": 90, "b": 20}, 50) == {"a", "b"}


def test_without_labels_there_are_selection_rates_only(tmp_path: Path) -> None:
    file = make_file(tmp_path, fairness={**FAIR, "told": "predictions"})
    reports, sent = run(file)
    (outcomes,) = [m for m in messages(sent["server"]) if isinstance(m, Outcomes)]
    assert len(outcomes.positive) == 0
    scores = reports["server"].rows[-1]["test"]
    assert "demographic_parity_sex" in scores
    assert "equalised_odds_sex" not in scores
    shown = figure(reports["town"], "sex")
    assert list(shown["umber"]) == ["rows", "selection rate", "selection rate from", "selection rate to"]
    guess, truth = joined(file, reports)
    sex = held_out(file, table()).sex.to_numpy()
    expected = metrics.demographic_parity_difference(truth, guess, sensitive_features=sex)
    assert scores["demographic_parity_sex"] == pytest.approx(expected, abs=1e-9)


def test_the_hub_may_know_the_column_itself_and_then_nothing_travels(tmp_path: Path) -> None:
    file = make_file(tmp_path, fairness={**FAIR, "at": {"sex": "server", "region": "server"}})
    reports, sent = run(file)
    assert not {"Outcomes", "GroupSums"} & {m.kind() for role in sent for m in messages(sent[role])}
    check_against_fairlearn(file, reports, table(), "server")


def test_a_seat_with_a_table_of_its_own_keeps_the_column_there(tmp_path: Path) -> None:
    whole = own_tables.scenario(own_tables.write(tmp_path)).resolved()
    asked = {"by": ["sex"], "at_least": 2}
    file = validate({**whole, "scenario": {**whole["scenario"], "fairness": asked}}, "tables", {})
    reports, sent = run(file)
    assert list(figure(reports["north"], "sex"))[:2] == ["f", "m"]
    (counts,) = [m.counts for m in messages(sent["north"]) if isinstance(m, GroupSums)]
    assert int(counts.sum()) == 20
    assert "GroupSums" not in {m.kind() for m in messages(sent["east"])}


def test_intervals_of_rates_are_exact_and_of_nobody_they_are_everything() -> None:
    counts = np.array([[3, 7, 20, 10], [0, 5, 5, 0], [40, 0, 0, 0]])
    found = rates(counts, True)
    for name, pairs in {
        "selection_rate": [(10, 40), (5, 10), (40, 40)],
        "true_positive_rate": [(3, 13), (0, 0), (40, 40)],
        "false_positive_rate": [(7, 27), (5, 10), (0, 0)],
    }.items():
        for each, (successes, count) in zip(found[name], pairs, strict=True):
            sure = binomtest(successes, count).proportion_ci(0.95) if count else None
            ends = (sure.low, sure.high) if sure else (0, 1)
            assert (each.low, each.high) == pytest.approx(ends)
            assert each.value == pytest.approx(successes / count if count else 0)
    assert found["true_positive_rate"][2].low < 0.95  # 40 of 40 do not make it certain


def test_intervals_of_differences_hold_the_true_difference_also_where_there_is_none() -> None:
    """Groups of few people differ by chance: a difference of 0 must lie inside, which no bootstrap of a range reaches."""
    draw, inside = np.random.default_rng(0), {"parity": [], "odds": []}
    sizes = np.array([400, 150, 60])
    for rates_of in ((0.3, 0.3, 0.3), (0.3, 0.35, 0.5)):
        for _ in range(40):
            positive = draw.binomial(sizes, 0.4)
            hit, wrong = draw.binomial(positive, rates_of), draw.binomial(sizes - positive, rates_of)
            counts = np.stack([hit, wrong, sizes - positive - wrong, positive - hit], axis=1)
            found, true = differences(counts, True), max(rates_of) - min(rates_of)
            inside["parity"].append(found["demographic_parity"].low <= true <= found["demographic_parity"].high)
            inside["odds"].append(found["equalised_odds"].low <= true <= found["equalised_odds"].high)
    for held in inside.values():
        assert sum(held[:40]) >= 35
        assert sum(held[40:]) >= 35


def test_planted_unfairness_is_found_and_fair_guesses_are_within_their_interval() -> None:
    rng = np.random.default_rng(1)
    group, positive = rng.choice(["a", "b"], 4000), rng.random(4000) < 0.5
    unfair = rng.random(4000) < np.where(group == "a", 0.6, 0.3)
    fair = rng.random(4000) < 0.5
    found = {}
    for name, selected in {"unfair": unfair, "fair": fair}.items():
        counts = np.array(list(sums(group, selected, positive).values()))
        found[name] = differences(counts, True)
    assert found["unfair"]["demographic_parity"].low > 0.25
    assert found["unfair"]["demographic_parity"].high < 0.35
    assert found["fair"]["demographic_parity"].low == 0
    assert found["fair"]["equalised_odds"].low == 0
    assert found["fair"]["equalised_odds"].value < 0.06


def test_what_is_wrong_is_refused_before_training(tmp_path: Path) -> None:
    def why(**fairness: Any) -> str:
        file = make_file(tmp_path, fairness={**FAIR, **fairness})
        with pytest.raises((ConfigError, DataError)) as found:
            build(file, "", file)
        return str(found.value)

    assert why(by=["sx"]).startswith("scenario.fairness.by: no party has a column 'sx'; did you mean 'sex'?")
    assert "no seat 'towm'; did you mean 'town'?" in why(at={"sex": "towm"})
    assert "favourable: no class 'y'" in why(favourable="y")
    assert "column 'hours' has " in why(by=["hours"])


def test_a_hub_refuses_sums_that_cannot_be() -> None:
    fine = torch.tensor([[1, 2, 3, 4]])
    assert _checked(GroupSums(0, fine), "town", 10) is fine
    for wrong in (fine[0], fine.float(), -fine, torch.tensor([[9, 9, 9, 9]]), torch.zeros(1, 4, dtype=torch.int64)):
        with pytest.raises(ProtocolError, match="town sent sums over groups"):
            _checked(GroupSums(0, wrong), "town", 10)
