"""What a seat owns stays with its operator: nothing of it is in what reaches the hub, unless the seat itself agrees."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from marked_tables import ATTACKED, SEATS, marks, marks_of, read_folder, scenario, search, write
from recording_proxy import Proxy
from safetensors.torch import load_file
from terminal import fedsim

from fedsim import experiment, outcome
from fedsim.config import ScenarioFile
from fedsim.errors import ConfigError, DataError, ProtocolError
from fedsim.message import RoleId
from fedsim.net import Net
from fedsim.outcome import SeatReport
from fedsim.plan import Secrets
from fedsim.report import seat_page
from fedsim.report.folder import RunFolder
from fedsim.report.reading import read
from fedsim.residency import SharingConsent, read_consent, release_report
from fedsim.runtime._crew import tokens
from fedsim.runtime._own_folder import name_folder, own_folder
from fedsim.runtime._seat import play_hub, play_spoke
from fedsim.runtime.flower import Flower, conducting
from fedsim.runtime.local import Local
from fedsim.state import digest
from fedsim.threat import Claim

PARTIES = ("north", "east")
IDS = b"a key of ids"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


def files(here: Path) -> dict[str, str]:
    return {seat: str(here / seat / f"{seat}.csv") for seat in SEATS}


def local(file: ScenarioFile) -> dict[RoleId, SeatReport]:
    return {report.role: report for report in Local().run(file, lambda role, row: None)}


def owned(reports: Mapping[RoleId, SeatReport]) -> dict[str, bytes]:
    """Every mark of what the parties own: cells, ids, categories, rows of truth as numbers, trained weights."""
    found = marks(*PARTIES)
    for party in PARTIES:
        shown = {name: rows for name, rows in reports[party].exhibits.items() if name.endswith("truth")}
        for name, tensor in (*reports[party].tensors.items(), *shown.items()):
            found |= marks_of(f"{party} {name}", tensor)
    return found


# What leaves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, ATTACKED], ids=["split", "shared"])
def test_a_released_report_holds_nothing_of_what_the_seat_owns(here: Path, changes: dict[str, Any]) -> None:
    file = scenario(files(here), **changes)
    reports, plan = local(file), file.plan()
    wanted = owned(reports)
    for party in PARTIES:
        whole, released = reports[party], release_report(reports[party], file, SharingConsent())
        assert search({party: outcome.to_bytes(released, plan)}, wanted) == set()
        assert search({party: outcome.to_bytes(whole, plan)}, wanted) != set()
        assert (released.rows, released.traffic, released.stages) == (whole.rows, whole.traffic, whole.stages)


@pytest.mark.parametrize(
    ("agrees", "found"),
    [
        ({"samples": 3}, {"rows of truth"}),
        ({"share_model": True}, {"weights"}),
        ({"share_schema": True}, {"categories"}),
    ],
)
def test_each_agreement_lets_out_what_it_names_and_no_more(here: Path, agrees: dict[str, Any], found: set[str]) -> None:
    file = scenario(files(here), **ATTACKED)
    north = local(file)["north"]
    truth = next(rows for name, rows in north.exhibits.items() if name.endswith("truth"))
    kinds = {
        "rows of truth": marks_of("first", truth[:3]),
        "more rows of truth": {
            n: m for n, m in marks_of("later", truth[3:]).items() if m not in marks_of("", truth[:3]).values()
        },
        "weights": {name: mark for key, t in north.tensors.items() for name, mark in marks_of(key, t).items()},
        "categories": {
            name: mark for name, mark in marks("north").items() if name.startswith("north: ") and "patient" not in name
        },
    }
    block = outcome.to_bytes(release_report(north, file, SharingConsent(**agrees)), file.plan())
    assert {kind for kind, wanted in kinds.items() if search({"": block}, wanted)} == found
    assert search({"": block}, {n: m for n, m in marks("north").items() if "patient" in n}) == set()


def test_the_scenario_alone_makes_no_seat_agree(here: Path) -> None:
    with pytest.raises(ConfigError, match="share_model"):
        scenario(files(here), share_model=True)
    assert read_consent({"party": "north", "data": "x"}) == SharingConsent()


def test_what_a_seat_agrees_to_is_in_its_own_settings_or_in_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "sharing.yaml").write_text("samples: 4\nshare_model: true\nruns: /srv/runs\n")
    there = {"sharing": str(tmp_path / "sharing.yaml")}
    assert read_consent(there) == SharingConsent(4, True, False, "/srv/runs")
    assert read_consent({**there, "samples": 0}) == SharingConsent(0, True, False, "/srv/runs")
    (tmp_path / "sharing.yaml").write_text("# nothing\n")
    assert read_consent(there) == SharingConsent()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"samples": -1}, "samples: expected a number of rows, 0 or more; found -1"),
        ({"samples": True}, "samples: expected a number of rows, 0 or more; found True"),
        ({"samples": "all"}, "samples: expected a number of rows, 0 or more; found 'all'"),
        ({"share_model": "yes"}, "share_model: expected true or false; found 'yes'"),
        ({"share_schema": 1}, "share_schema: expected true or false; found 1"),
        ({"sharing": "nowhere.yaml"}, "nowhere.yaml cannot be read: No such file"),
        ({"sharing": "other.yaml"}, "no setting 'share_modle'; did you mean 'share_model'"),
    ],
)
def test_an_agreement_that_cannot_be_is_refused(here: Path, settings: dict[str, Any], why: str) -> None:
    (here / "other.yaml").write_text("share_modle: true\n")
    with pytest.raises(ConfigError, match=why):
        read_consent(settings)


# Every byte that reaches the hub --------------------------------------------------------------------------------------


async def play_over_the_network(file: ScenarioFile) -> tuple[bytes, dict[RoleId, SeatReport]]:
    """Play every seat over its own stream, as by hand; all that the parties sent, and what each seat keeps."""
    plan, proxy = file.plan(), Proxy()
    shown = tokens(plan)
    own = {role: Secrets(f"secret of {role}".encode(), IDS) for role in plan.roster}
    hub = play_hub(file, shown[plan.hub], secrets=own[plan.hub], listening=proxy.open)
    others = [role for role in plan.roster if role != plan.hub]
    try:
        spokes = (play_spoke(file, role, shown[role], proxy.address, secrets=own[role]) for role in others)
        reports = await asyncio.gather(hub, *spokes)
    finally:
        sent = await asyncio.to_thread(proxy.close)
    return sent, {report.role: report for report in reports}


def test_no_byte_on_the_streams_to_the_hub_is_of_what_a_party_owns(here: Path) -> None:
    file = scenario(files(here))
    sent, reports = asyncio.run(play_over_the_network(file))
    assert len(sent) > 5000
    assert search({"streams": sent}, owned(reports)) == set()


def test_the_search_finds_rows_that_a_party_does_send(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same streams with one more message, in which a party sends rows."""
    file = scenario(files(here))
    (rows,) = [
        rows for name, rows in local(scenario(files(here), **ATTACKED))["north"].exhibits.items() if "0/truth" in name
    ]
    send = Net.send

    async def send_rows_first(self: Net, to: RoleId, message: Any) -> None:
        if self.me == "north" and message.kind() == "Rows":
            await send(self, to, Claim(about="features", rows=rows.long(), values=rows, purpose="query"))
        await send(self, to, message)

    monkeypatch.setattr(Net, "send", send_rows_first)
    sent, _ = asyncio.run(play_over_the_network(file))
    assert len(search({"streams": sent}, marks_of("north", rows))) == len(rows) == 8


pytest.importorskip("flwr", reason="needs fedsim-vfl[flower]")

from flower_village import Grid, Node, grid, liar, seat  # noqa: E402 (needs Flower)


def settings(here: Path, party: str, **more: Any) -> dict[str, Any]:
    """As the operator of a party writes them."""
    (here / "ids").write_bytes(IDS)
    (here / party / "secret").write_text(f"secret of {party}")
    own = {"party": party, "data": files(here)[party], "secret": str(here / party / "secret")}
    return {**own, "ids_key": str(here / "ids"), "runs": str(here / party / "runs"), **more}


def lead(file: ScenarioFile, here: Path, village: Grid, **runtime: Any) -> Path:
    """Play the hub of a run whose parties are at the nodes of a grid; the run folder at the hub."""
    own, _ = file.model_copy(update={"runtime": Flower(wait=30.0, **runtime)}), village
    at_hub = own.model_copy(update={"scenario": own.scenario.at("server", files(here)["server"])})
    with conducting(village, Secrets(b"secret of server", IDS)):
        return experiment.run(at_hub, here / "led", pages=True)


@contextmanager
def deployed(here: Path, **more: Mapping[str, Any]) -> Iterator[Grid]:
    with grid(*(seat(**settings(here, party, **more.get(party, {}))) for party in PARTIES)) as village:
        yield village


def folder_of(here: Path, party: str) -> Path:
    (found,) = (here / party / "runs").iterdir()
    assert found.name.endswith(f"-{party}")
    return found


def trained(here: Path) -> dict[str, bytes]:
    """Marks of what the parties have in their own folders: weights and rows of truth."""
    found: dict[str, bytes] = {}
    for party in PARTIES:
        for path in folder_of(here, party).rglob("*.safetensors"):
            for name, tensor in load_file(path).items():
                if name not in ("claim", "rows", "values"):
                    found |= marks_of(f"{party} {path.stem} {name}", tensor)
    return found


@pytest.mark.parametrize("changes", [{}, ATTACKED], ids=["split", "shared"])
def test_no_message_of_flower_and_no_file_at_the_hub_is_of_what_a_party_owns(
    here: Path, changes: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    file = scenario({}, **changes)
    with deployed(here) as village:
        led = lead(file, here, village)
    wanted, answers = {**marks(*PARTIES), **trained(here)}, b"\n".join(village.answers)
    assert len(answers) > 1000
    assert len(wanted) > 500
    assert search({"messages": answers, **read_folder(led)}, wanted) == set()
    page = (led / "report.html").read_text()
    assert "Each seat has an operator of its own. What stayed: " in page
    assert "One operator" not in page
    assert ("Truth and reconstruction" in page) is False


def test_the_search_finds_what_a_party_agrees_to(here: Path) -> None:
    """The control: the same run, in which one party shares everything, and the other nothing."""
    with deployed(here, north={"samples": 2, "share_model": True, "share_schema": True}) as village:
        led = lead(scenario({}, **ATTACKED), here, village)
    answers = {"messages": b"\n".join(village.answers), **read_folder(led)}
    found = search(answers, {**marks("north"), **{n: m for n, m in trained(here).items() if n.startswith("north ")}})
    assert {each.partition(": ")[0].removeprefix(str(led)) for each in found} >= {
        "messages",
        "/claims/marked/0-cafe-north-shown.safetensors",
        "/model/north.safetensors",
        "/model/north.json",
        "/seats.json",
    }
    assert not [each for each in found if "patient" in each]
    east = {**marks("east"), **{n: m for n, m in trained(here).items() if n.startswith("east ")}}
    assert search(answers, east) == set()
    shown = load_file(led / "claims/marked/0-cafe-north-shown.safetensors")
    assert {name: len(rows) for name, rows in shown.items()} == {"truth": 2, "claim": 2}


def test_each_party_has_its_own_model_page_and_rows_of_truth(here: Path) -> None:
    file = scenario({}, **ATTACKED)
    with deployed(here) as village:
        led = lead(file, here, village)
    hub = json.loads((led / "summary.json").read_text())
    alone = local(scenario(files(here), **ATTACKED))
    for party in PARTIES:
        own = folder_of(here, party)
        there = json.loads((own / "summary.json").read_text())["weights_sha256"][party]
        assert there == hub["weights_sha256"][party]
        shown = load_file(own / f"claims/marked/0-cafe-{party}-shown.safetensors")
        (truth,) = [rows for name, rows in alone[party].exhibits.items() if name.endswith("/truth")]
        assert shown["truth"].equal(truth)
        page = (own / "report.html").read_text()
        assert "Truth and reconstruction" in page
        assert "cafe at server" in page
        assert seat_page.render(read(own)).replace("\n", "") == page.replace("\n", "")
    assert [trial["victim"] for trial in hub["trials"]] == list(PARTIES)


@pytest.mark.parametrize("kind", ["local", "processes"])
def test_a_simulation_says_that_one_operator_saw_everything(here: Path, kind: str) -> None:
    file = scenario(files(here), **ATTACKED, runtime={"kind": kind})
    run = experiment.run(file, here / "alone")
    page = (run / "report.html").read_text()
    assert page.count("A simulation: one operator started every seat and saw everything") == 1
    assert "Each seat has an operator of its own" not in page
    assert "Truth and reconstruction" in page
    assert search(read_folder(run), marks_of("truth", local(file)["north"].exhibits["0/truth"]))


def test_what_the_hub_lacks_is_said_in_a_line_and_the_folders_of_parties_help(here: Path) -> None:
    with deployed(here) as village:
        led = lead(scenario({}), here, village)
    new = [word for party in PARTIES for word in ("--data", f"{party}={files(here)[party]}")]
    refused = fedsim("predict", led, *new)
    assert (refused.code, refused.err) == (
        2,
        f"fedsim: {led}: north, east keep their trained model in their own run folder; predict with --part north=RUN "
        "for each, or agree to it there: share_model, share_schema\n",
    )
    card = fedsim("card", led)
    assert (card.code, card.err.startswith(f"fedsim: {led}: north, east keep their trained model")) == (2, True)
    parts = [word for party in PARTIES for word in ("--part", f"{party}={folder_of(here, party)}")]
    predicted = fedsim("predict", led, *new, *parts)
    assert (predicted.code, len(predicted.out.splitlines())) == (0, 61), predicted.err
    swapped = fedsim("predict", led, *new, "--part", f"north={folder_of(here, 'east')}", *parts[2:])
    assert (swapped.code, swapped.err) == (2, f"fedsim: {folder_of(here, 'east')}: holds nothing of seat 'north'\n")
    own = fedsim("report", "--own", folder_of(here, "north"))
    assert (own.code, own.out) == (0, f"report: {folder_of(here, 'north')}/report.html\n")


def test_an_error_at_a_seat_is_told_by_its_kind_and_its_own_log_has_the_rest(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = here / "north" / "north.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:3], lines[3].replace(lines[3].split(",")[1], "geheimwert"), *lines[4:]]) + "\n")
    with deployed(here) as village, pytest.raises(DataError) as raised:
        lead(scenario({}), here, village)
    assert str(raised.value) == "north: it failed with DataError; its own log says why"
    places = {"messages": b"\n".join(village.answers), **read_folder(here / "led")}
    assert search(places, {**marks("north"), "the cell": b"geheimwert"}) == set()
    assert "geheimwert" in capfd.readouterr().err
    assert search(read_folder(folder_of(here, "north")), {"the cell": b"geheimwert"}) != set()


def test_a_seat_without_a_folder_plays_on_and_its_log_says_that_nothing_is_kept(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "runs").write_text("a file")
    own = {party: {"runs": ""} for party in PARTIES}
    with deployed(here, **own) as village:
        lead(scenario({}), here, village)
    said = capfd.readouterr().err
    assert said.count("keeps nothing of this run, neither its trained model nor its page: ") == 2
    with (
        deployed(here, north={"runs": str(here / "runs")}) as village,
        pytest.raises(Exception, match="north: it failed"),
    ):
        lead(scenario({}), here, village)


def test_a_seat_that_is_started_again_waits_for_its_earlier_process(here: Path) -> None:
    file, opened = scenario(files(here)), threading.Event()
    path = here / "runs" / name_folder(file, "north")

    def earlier() -> None:
        with RunFolder.open_for(path, file):
            opened.set()
            threading.Event().wait(0.5)  # until it notices that its run is lost

    process = threading.Thread(target=earlier)
    process.start()
    opened.wait()
    said: list[str] = []
    with own_folder(str(here / "runs"), file, "north", said.append) as folder:
        folder.write(local(file)["north"])
    process.join()
    assert said == [f"north: run folder: {path}"]
    assert json.loads((path / "summary.json").read_text())["weights_sha256"].keys() == {"north"}


# A node speaks for its own seat only -----------------------------------------------------------------------------------


def fake_report(role: RoleId, here: Path) -> bytes:
    file = scenario(files(here))
    report = local(file)[role]
    return outcome.to_bytes(report, file.plan())


def turncoat(node: Node, **content: Any) -> Node:
    """A node that plays its seat, and then reports what it likes."""

    def answer(message: Any) -> Any:
        node(message)
        return liar(**content)(message)

    return answer


def test_a_report_of_another_seat_ends_the_run_and_names_the_node(here: Path) -> None:
    east = turncoat(seat(**settings(here, "east")), role="north", report=fake_report("north", here))
    with grid(seat(**settings(here, "north")), east) as village, pytest.raises(ProtocolError) as raised:
        lead(scenario({}), here, village)
    assert str(raised.value) == "east, at node 101 of Flower, sent a report of 'north', and has joined as east"


GARBAGE: dict[str, dict[str, Any]] = {
    "no record": {"name": "other"},
    "nothing": {},
    "a report that is none": {"role": "east", "report": b"garbage"},
    "a report of another type": {"role": "east", "report": [1, 2]},
    "an error that is none": {"role": "east", "error": [1, 2]},
    "a role that is none": {"role": 5, "report": b""},
    "the hub's role": {"role": "server", "report": b""},
    "an error of the hub": {"role": "server", "error": ["DataError", "x"]},
    "an error of another seat": {"role": "north", "error": ["DataError", "x"]},
}


@pytest.mark.parametrize("what", GARBAGE)
def test_what_a_node_sends_that_cannot_be_ends_the_run_and_names_it(here: Path, what: str) -> None:
    east = turncoat(seat(**settings(here, "east")), **GARBAGE[what])
    with (
        grid(seat(**settings(here, "north")), east) as village,
        pytest.raises(ProtocolError, match=r"^east, at node 101 of Flower, sent "),
    ):
        lead(scenario({}), here, village)


@pytest.mark.parametrize("what", [what for what in GARBAGE if what not in ("an error of another seat",)])
def test_a_node_that_has_no_seat_is_passed_over(here: Path, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = {**GARBAGE[what], **({"role": "nobody"} if GARBAGE[what].get("role") == "east" else {})}
    with grid(liar(**content), *(seat(**settings(here, party)) for party in PARTIES)) as village:
        led = lead(scenario({}), here, village)
    found = json.loads((led / "summary.json").read_text())["weights_sha256"]
    for party in PARTIES:
        assert found[party] == digest(load_file(folder_of(here, party) / f"model/{party}.safetensors"))


def test_over_mail_too_nothing_leaves_and_a_node_speaks_for_its_own_seat(here: Path) -> None:
    changes = {**ATTACKED, "scenario": {**ATTACKED["scenario"], "steps": 2, "window": {"from": 0, "rounds": 2}}}
    with deployed(here) as village:
        led = lead(scenario({}, **changes), here, village, transport="flower")
    shown = {name: mark for name, mark in trained(here).items() if "truth" in name}  # weights travel in this exchange
    assert len(shown) > 100
    wanted = {**marks(*PARTIES), **shown}
    assert search({"mail": b"\n".join(village.answers), **read_folder(led)}, wanted) == set()
    honest = seat(**settings(here, "east"))

    def lying(message: Any) -> Any:
        reply = honest(message)
        if "report" in reply.content["post"]:
            reply.content["post"]["role"] = "north"
        return reply

    with (
        grid(seat(**settings(here, "north")), lying) as village,
        pytest.raises(ProtocolError, match=r"^the node that plays east answers as 'north'"),
    ):
        lead(scenario({}, **changes), here, village, transport="flower")
