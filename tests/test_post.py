"""Frames in the post: seats that play again from their start give the same numbers, and what cannot be is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from own_tables import scenario, write
from small import SMALL, small

from fedsim.config import Runtime, ScenarioFile
from fedsim.errors import ConfigError, DataError, ProtocolError, TransportBroken
from fedsim.net import Watch
from fedsim.outcome import SeatReport
from fedsim.plan import Secrets
from fedsim.runtime._mail import SLOW, answered, correspond
from fedsim.state import digest
from fedsim.testing import check_runtime
from fedsim.transport.post import PostOffice, Replay, marked, pack, unpack


def parties(*names: str) -> dict[int, dict[str, Any]]:
    return {100 + i: {"party": name, "simulate": True} for i, name in enumerate(names)}


class Village:
    """Nodes that answer in this process, each with what it keeps."""

    def __init__(self, nodes: Mapping[int, Mapping[str, Any]]) -> None:
        self.nodes, self.rounds = nodes, 0
        self.kept: dict[int, dict[str, Any]] = {node: {} for node in nodes}

    async def there(self) -> list[int]:
        return list(self.nodes)

    async def ask(self, questions: Mapping[int, Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
        self.rounds += 1
        answers = {}
        for node, question in questions.items():
            told = [question, self.nodes[node], self.kept[node]]
            answers[node], self.kept[node] = await asyncio.to_thread(
                answered, *told
            )  # as it plays on a loop of its own
        return answers

    def play(self, file: ScenarioFile, watch: Watch = lambda role, row: None, wait: float = 60.0) -> list[SeatReport]:
        return asyncio.run(correspond(self.there, self.ask, file, Secrets(), watch, wait))


class Posted(Runtime):
    """The post, with every node in this process."""

    def run(self, file: ScenarioFile, watch: Watch) -> list[SeatReport]:
        """See `Runtime.run`."""
        plan = file.plan()
        others = [role for role in plan.roster if role != plan.hub]
        return Village(parties("stranger", *reversed(others), others[0])).play(file, watch)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_numbers_as_on_one_event_loop(name: str) -> None:
    check_runtime(Posted(), small(name))


def test_the_same_numbers_with_a_table_a_seat(tmp_path: Path) -> None:
    check_runtime(Posted(), scenario(write(tmp_path)))


def test_a_training_step_is_one_round_and_it_says_that_it_is_slow() -> None:
    rounds = {}
    for steps in (4, 6):
        shown: list[Any] = []
        file, village = small("labels", trials=()), Village(parties("north", "east"))
        settings = file.scenario.model_copy(update={"steps": steps, "evaluate": steps})
        village.play(file.model_copy(update={"scenario": settings}), lambda role, row: shown.append(row))  # noqa: B023
        assert [row["notice"] for row in shown if "notice" in row] == [SLOW]
        rounds[steps] = village.rounds
    assert rounds[6] - rounds[4] == 2


def test_who_is_missing_is_named_with_the_nodes_that_have_no_seat() -> None:
    why = r"east did not come within 0\.1 s; a node says party='nobody'; .*; a second node says party='north'"
    with pytest.raises(TransportBroken, match=why):
        Village(parties("nobody", "north", "north")).play(small("labels"), wait=0.1)


def test_what_a_seat_raises_is_raised_at_the_hub(tmp_path: Path) -> None:
    paths = write(tmp_path)
    Path(paths["north"]).write_text("number,age\n1,2\n")
    with pytest.raises(DataError, match=r"north\.csv at north: the data has no column 'sex'"):
        Village(parties("north", "east")).play(scenario(paths))


def test_a_seat_plays_the_scenario_that_it_agrees_to_and_no_other(tmp_path: Path) -> None:
    file = small("labels", trials=())
    (tmp_path / "agreed.yaml").write_text(json.dumps(file.resolved()))
    nodes = parties("north", "east")
    nodes[100]["agrees"] = str(tmp_path / "agreed.yaml")
    reports = Village(nodes).play(file)
    assert [report.role for report in reports] == ["server", "north", "east"]
    other = small("labels", trials=(), links=())
    mine, theirs = file.digest()[:8], other.digest()[:8]
    with pytest.raises(ConfigError, match=f"north agrees to play {mine} and no other .*; it is asked for {theirs}"):
        Village(nodes).play(other)


def test_a_seat_whose_data_changes_under_it_is_found_out(tmp_path: Path) -> None:
    paths = write(tmp_path)
    village = Village(parties("north", "east"))
    ask = village.ask

    async def change(questions: Mapping[int, Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
        if village.rounds == 4:
            table = pd.read_csv(paths["east"])
            table.assign(pulse=table["pulse"] ** 2).to_csv(paths["east"], index=False)
        return await ask(questions)

    village.ask = change  # type: ignore[method-assign]
    with pytest.raises(ProtocolError, match="a seat that plays again sends other frames than before: its data"):
        village.play(scenario(paths))


def test_mail_that_cannot_be_is_refused() -> None:
    mail = [("hub", b"one"), ("east", b"")]
    assert unpack(pack(mail)) == mail
    for block in (b"", b"x", pack(mail)[:-1], b"\x91\x91\xa1a", b"\x91\x92\x01\x02"):
        with pytest.raises(ProtocolError, match="not mail"):
            unpack(block)
    office = PostOffice("hub", ["north", "east"], None)  # type: ignore[arg-type]
    for stranger in ("north", "west"):
        with pytest.raises(ProtocolError, match=f"north sent mail for '{stranger}', who is not here"):
            office.take({"north": [(stranger, b"frame")]})
    way = Replay([])
    asyncio.run(way.send("hub", b"two"))
    with pytest.raises(ProtocolError, match="sends other frames than before"):
        way.news(1, marked(mail[:1]))


def with_secrets(folder: Path) -> Village:
    """Nodes that have a secret each, and the same key of ids."""
    nodes = {}
    for node, party in ((100, "north"), (101, "east")):
        (folder / f"{party}-secret").write_text(f"hushed by {party}")
        nodes[node] = {"party": party, "secret": str(folder / f"{party}-secret")}
    return Village(nodes)


def test_a_seat_with_a_secret_draws_the_same_whenever_it_plays_again_and_another_in_the_next_run(
    tmp_path: Path,
) -> None:
    """Were the draws others each time, the frames would be, and the run would end."""
    village, found, kept = with_secrets(tmp_path), set[str](), set[bytes]()
    for _ in range(2):
        reports = village.play(small("labels", trials=()))
        assert [report.noise_source for report in reports] == ["seed", "secret", "secret"]
        found |= {digest(report.tensors) for report in reports if report.role != "server"}
        kept |= {state["fresh"] for state in village.kept.values()}
    assert len(found) == len(kept) == 2 * 2


def test_neither_secret_nor_fresh_bytes_are_in_what_a_node_answers(tmp_path: Path) -> None:
    village, said = with_secrets(tmp_path), list[bytes]()
    ask = village.ask

    async def hear(questions: Mapping[int, Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
        answers = await ask(questions)
        said.extend(
            value if isinstance(value, bytes) else str(value).encode()
            for answer in answers.values()
            for value in answer.values()
        )
        return answers

    village.ask = hear  # type: ignore[method-assign]
    village.play(small("labels", trials=()))
    hidden = [b"hushed", *(state["fresh"] for state in village.kept.values())]
    hidden += [each.hex().encode() for each in hidden]
    assert len(said) > 20
    assert [each for each in said if any(word in each for word in hidden)] == []
