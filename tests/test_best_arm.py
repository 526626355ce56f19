"""A contest of parties: the right one is chosen under lies, nobody waits for the silent, and nothing else changes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small import small

from fedsim import experiment
from fedsim.bandit.lies import EDGE
from fedsim.config import ScenarioFile, read, validate
from fedsim.errors import ConfigError, ProtocolError, ThreatModelError
from fedsim.message import Message, RoleId
from fedsim.outcome import SeatReport
from fedsim.override import merge
from fedsim.parties.arms import Pull, Reward
from fedsim.parties.arms.hub import LARGEST, Chooser
from fedsim.plan import Plan
from fedsim.runtime.local import memory, play_all
from fedsim.runtime.processes import Processes
from fedsim.scenarios.best_arm import build_chooser
from fedsim.scenarios.defences.lying import Lying, Told
from fedsim.seeding import Rng
from fedsim.state import digest
from fedsim.testing import check_runtime

SETTINGS: Mapping[str, Any] = {
    "kind": "best_arm",
    "data": {"kind": "synthetic", "count": 900, "features": 12, "informative": 8, "test": 300, "seed": 1},
    "parties": {"north": {"columns": "0:3"}, "east": {"columns": "3:8"}, "south": {"columns": "8:12"}},
    "noise": {"static": 4},
    "embedding": 4,
    "batch": 40,
    "steps": 120,
    "search": {"rows": 64},
}


def contest(links: Mapping[RoleId, Mapping[str, Any]] | None = None, **more: Any) -> ScenarioFile:
    """The file, with lies by who tells them; ``seats`` and settings of the search by name."""
    seats, search = more.pop("seats", {}), more.pop("search", {})
    scenario = {**SETTINGS, **more, "search": {**SETTINGS["search"], **search}}
    lies = [
        {"from": name, "to": "server", "message": "Reward", "sender": [{"kind": "lying", **lie}]}
        for name, lie in (links or {}).items()
    ]
    return validate({"scenario": scenario, "links": lies, "seats": seats}, "contest", {})


def said(file: ScenarioFile) -> list[str]:
    """The last thing that people are told."""
    shown: list[str] = []
    watch = lambda role, row: shown.append(row["notice"]) if "notice" in row else None  # noqa: E731
    asyncio.run(play_all(file, memory(file.plan()), watch=watch))
    return shown[-1:]


def play(file: ScenarioFile) -> dict[RoleId, SeatReport]:
    return {report.role: report for report in asyncio.run(play_all(file, memory(file.plan())))}


def numbers(found: Mapping[RoleId, SeatReport], hub: RoleId = "server") -> dict[str, float]:
    return dict(found[hub].rows[-1]["test"])


def table(found: Mapping[RoleId, SeatReport], hub: RoleId = "server") -> dict[RoleId, dict[str, float]]:
    grid = found[hub].figures[-1]
    return {
        name: dict(zip(grid["columns"], row, strict=True))
        for name, row in zip(grid["rows"], grid["values"], strict=True)
    }


@pytest.fixture(scope="module")
def honest() -> dict[RoleId, SeatReport]:
    return play(contest())


@pytest.fixture(scope="module")
def best(honest: Mapping[RoleId, SeatReport]) -> RoleId:
    arms = table(honest)
    return max(arms, key=lambda name: arms[name]["true gain"])


def harmful(best: RoleId, **lie: Any) -> dict[RoleId, dict[str, Any]]:
    return {name: {**lie, "harm": "down" if name == best else "up"} for name in (*SETTINGS["parties"], "static")}


def test_the_party_that_adds_most_is_chosen(honest: Mapping[RoleId, SeatReport], best: RoleId) -> None:
    found, arms = numbers(honest), table(honest)
    assert (found["decided"], found["chose_the_best"], found["dropped"]) == (1, 1, 0)
    assert arms[best]["chosen"] == 1
    assert found["gap"] > found["four_times_bias"] > 0
    assert all(arm["from"] <= arm["true gain"] <= arm["to"] for arm in arms.values())
    assert abs(arms["static"]["true gain"]) < 0.1 < arms[best]["true gain"]
    assert found["pulls"] == sum(arm["pulls"] for arm in arms.values())
    assert arms[best]["pulls"] > arms["static"]["pulls"]


@pytest.mark.parametrize("law", ["gross", "edge", "adaptive", "varying"])
def test_it_is_chosen_under_lies_as_well(best: RoleId, law: str) -> None:
    found = play(contest(harmful(best, law=law)))
    assert numbers(found)["chose_the_best"] == 1
    told = [(stage["numbers"], stage["lies"]) for name in SETTINGS["parties"] for stage in found[name].stages]
    assert all(0.01 * n < lies < 0.12 * n for n, lies in told)


def test_the_plain_mean_falls_for_lies_that_the_trimmed_mean_bears(best: RoleId) -> None:
    lies = harmful(best, size=60.0)
    assert numbers(play(contest(lies)))["chose_the_best"] == 1
    assert numbers(play(contest(lies, search={"estimator": "mean"})))["chose_the_best"] == 0


def test_lies_touch_no_model_and_no_truth(honest: Mapping[RoleId, SeatReport], best: RoleId) -> None:
    lied = play(contest(harmful(best)))
    for role, report in honest.items():
        assert digest(report.tensors) == digest(lied[role].tensors)
    truths = [[arm["true gain"] for arm in table(found).values()] for found in (honest, lied)]
    assert truths[0] == truths[1]


def test_rules_differ_in_pulls_only(best: RoleId) -> None:
    runs = {rule: numbers(play(contest(search={"rule": rule}))) for rule in ("gap", "elimination", "uniform")}
    assert {found["chose_the_best"] for found in runs.values()} == {1}
    assert runs["gap"]["pulls"] <= runs["elimination"]["pulls"] < runs["uniform"]["pulls"]


def test_what_lies_could_turn_round_is_left_undecided_with_intervals(best: RoleId) -> None:
    found = play(contest(harmful(best), search={"rows": 1, "max_pulls": 6000}))
    assert numbers(found)["gap"] < numbers(found)["four_times_bias"]
    assert (numbers(found)["decided"], numbers(found)["chose_the_best"]) == (0, 0)
    assert all(arm["from"] < arm["true gain"] < arm["to"] for arm in table(found).values())
    race = found["server"].figures[0]
    assert [line["name"] for line in race["lines"]][:4] == list(table(found))


def test_a_party_with_a_model_of_its_own_can_choose() -> None:
    found = play(contest(labels="north"))
    assert list(found) == ["north", "east", "south", "static"]
    assert set(table(found, "north")) == {"east", "south", "static"}
    alone, beside = table(play(contest())), table(found, "north")
    assert all(beside[name]["true gain"] < alone[name]["true gain"] for name in ("east", "south"))
    assert {name.split(".")[0] for name in found["north"].tensors} == {"bottom", "top", "head"}


# silence


@pytest.mark.parametrize("after", [0, 1, 2])
def test_who_never_answers_is_dropped_and_does_not_bias_the_others(
    honest: Mapping[RoleId, SeatReport], best: RoleId, after: int
) -> None:
    other = next(name for name in SETTINGS["parties"] if name != best)
    found = play(contest(seats={other: [{"kind": "silent", "after": after}]}))
    assert (numbers(found)["chose_the_best"], numbers(found)["dropped"]) == (1, 1)
    there, before = table(found), table(honest)
    assert math.isnan(there[other]["true gain"])
    assert there[best]["true gain"] == before[best]["true gain"]
    if after:  # of the same sigma: the intervals are those of the same pulls
        assert there[best] == before[best]


def test_if_the_best_is_silent_the_best_of_the_others_is_chosen(best: RoleId) -> None:
    found = play(contest(seats={best: [{"kind": "silent"}]}))
    arms = {name: arm for name, arm in table(found).items() if name != best}
    assert arms[max(arms, key=lambda name: arms[name]["true gain"])]["chosen"] == 1


def test_the_page_of_a_contest_shows_intervals_and_who_was_silent(best: RoleId, tmp_path: Path) -> None:
    file = contest(harmful(best), seats={"static": [{"kind": "silent"}]})
    page = (experiment.run(file, tmp_path / "run") / "report.html").read_text("utf-8")
    for words in ("What may still be the best", "The candidates", "true gain", "blocks_answered 0", "silent", "lying"):
        assert words in page


def test_if_nobody_answers_nobody_is_chosen() -> None:
    names = (*SETTINGS["parties"], "static")
    found = play(contest(seats={name: [{"kind": "silent"}] for name in names}))
    assert (numbers(found)["decided"], numbers(found)["dropped"], numbers(found)["pulls"]) == (0, 4, 0)


def test_the_answer_is_told_in_a_sentence(best: RoleId) -> None:
    other = next(name for name in SETTINGS["parties"] if name != best)
    pulls = int(numbers(play(contest()))["pulls"])
    assert said(contest()) == [f"chose {best} after {pulls:,} pulls"]
    (silent,) = said(contest(seats={other: [{"kind": "silent"}]}))
    assert silent.startswith(f"chose {best} after ")
    assert silent.endswith(f"; {other} fell silent")
    (open_,) = said(contest(harmful(best), search={"rows": 1, "max_pulls": 6000}))
    assert open_.startswith("undecided after ")
    assert best in open_
    assert open_.endswith(" may still be the best")
    everyone = {name: [{"kind": "silent"}] for name in (*SETTINGS["parties"], "static")}
    assert said(contest(seats=everyone)) == ["no candidate answered: nothing is decided"]


def test_between_processes_a_deadline_is_one() -> None:
    """A clock runs there; on one event loop it is known that nothing will come. The numbers are the same."""
    file = small("best_arm", seats={"static": [{"kind": "silent"}]})
    soon = merge(file.resolved(), {"scenario": {"search": {"deadline": 5.0}}})
    check_runtime(Processes(), validate(soon, "soon", {}))


def test_only_a_candidate_can_be_silent() -> None:
    with pytest.raises(
        ThreatModelError, match="silent: expected a candidate of best_arm, found a seat that answers no pulls"
    ):
        play(small("baseline", seats={"north": [{"kind": "silent"}]}))


# what cannot be


def answered(reply: Message) -> Any:
    class Replies:
        me = "server"

        async def send(self, to: RoleId, message: Message) -> None:
            assert isinstance(message, Pull)

        async def recv(self, frm: RoleId, kind: type[Message], step: int, within: float | None = None) -> Message:
            return reply

    file = contest()
    scenario: Any = file.scenario
    chooser: Chooser = build_chooser(scenario, Rng.root(0), Rng.secret(b"s"))
    net: Any = Replies()
    return asyncio.run(chooser._ask(net, {"north": 2}))["north"]


def test_rewards_that_are_no_numbers_count_as_far_off_and_are_trimmed() -> None:
    values = torch.tensor([math.nan, math.inf], dtype=torch.float64)
    assert answered(Reward(0, values)).tolist() == [-LARGEST, LARGEST]


def test_more_rewards_than_asked_for_are_refused() -> None:
    with pytest.raises(ProtocolError, match=r"^north sent rewards of shape \(3,\), expected \(2,\)$"):
        answered(Reward(0, torch.zeros(3)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"exchange": "shared"}, "exchange: a contest has none but its default; found shared"),
        ({"noise": {"north": 2}}, "noise: 'north' is a party with columns already"),
        ({"noise": {"static": 0}}, "noise: 'static' needs at least one column"),
        ({"noise": {"server": 1}}, "'server' cannot name a party"),
        ({"data": {"kind": "tables", "id": "id"}}, "data"),
        ({"search": {"rule": "best"}}, "rule"),
        ({"search": {"eps": 0.3}}, "eps"),
    ],
)
def test_what_makes_no_contest_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        contest(**change)


def test_one_candidate_is_no_contest() -> None:
    columns = {"north": {"columns": "0:12"}}
    with pytest.raises(ConfigError, match=r"scenario\.parties: a contest needs two candidates, found 1"):
        contest(parties=columns, noise={}).plan()


def test_a_cap_below_the_first_look_is_refused() -> None:
    scenario: Any = contest().scenario
    least = len(scenario.candidates) * scenario.search.start
    contest(search={"max_pulls": least}).plan()
    with pytest.raises(ConfigError, match=rf"max_pulls: expected at least {least}, .*; found {least - 1}"):
        contest(search={"max_pulls": least - 1}).plan()


def test_rewards_pass_the_link_and_labels_do_not_come_back() -> None:
    plan: Plan = contest().plan()
    assert plan.kinds_between("server", "north") == {
        "Rows", "Embedding", "Gradient", "Yardstick", "Pull", "Reward", "Truth",
    }  # fmt: skip
    assert not any(seat.truths for seat in plan.seats.values())


# the stage


def test_the_stage_lies_as_often_and_as_far_as_it_says() -> None:
    stage = Lying(share=0.1, law="edge", harm="down").stage()
    true = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    message, state = stage.apply(Reward(0, true), stage.init(Rng.root(0)))
    assert isinstance(message, Reward)
    assert isinstance(state, Told)
    changed = message.values[message.values != true]
    assert (state.numbers, state.lies) == (4000, len(changed))
    assert 330 < len(changed) < 470
    assert changed.numpy() == pytest.approx(float(true.mean() - EDGE * true.std(correction=0)))


def test_the_shipped_contest_is_won_by_the_rules_that_bear_lies() -> None:
    found = {name: numbers(play(arm)) for name, arm in read("best_arm").arms().items()}
    for name in ("gap", "elimination", "uniform", "median"):
        assert found[name]["chose_the_best"] == 1
    assert found["gap"]["pulls"] <= found["elimination"]["pulls"] < found["uniform"]["pulls"]
