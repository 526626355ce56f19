"""Seats placed by Flower: the same numbers, plain words when one dies, nothing left and nothing secret to be seen."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import marked_tables
import pytest
from listening import addresses, children, words
from own_tables import MARK, scenario, write
from recording_proxy import Proxy
from safetensors.torch import load_file
from small import small
from terminal import TABLE, fedsim, fine, write_table

from fedsim import config, experiment
from fedsim.errors import ConfigError
from fedsim.runtime._deployment import SWITCHES, VOICE, Deployment
from fedsim.runtime.flower import Flower, deployment
from fedsim.testing import check_runtime
from fedsim.transport.addresses import free_port

pytest.importorskip("flwr", reason="needs fedsim-vfl[flower]")

ROOT = Path(__file__).parent.parent
PATIENCE = 300.0
HEX = re.compile(rb"\b[0-9a-f]{64}\b")
OURS = re.compile(rb"(?<!ID: )(?<!fab_hash=)(?<!--token )\b[0-9a-f]{64}\b")
"""What a token of ours looks like; Flower's ids, hashes and tokens do as well, but it says what they are."""
PARTIES: Mapping[str, Mapping[str, str]] = {"north": {}, "east": {}}


@pytest.fixture(scope="module")
def _deployed() -> Iterator[None]:
    """One SuperLink and its SuperNodes for all tests here that end well."""
    with deployment(PARTIES):
        pids = children(os.getpid())
        yield
    assert [pid for pid in pids if "flower" in words(pid)] == []


@pytest.mark.usefixtures("_deployed")
@pytest.mark.parametrize(
    "name", ["leakage", "labels", "weight_faults", "best_arm", "uda_poisoning", "minmax", "minmax_slice"]
)
def test_the_same_numbers_as_on_one_event_loop(name: str) -> None:
    check_runtime(Flower(), small(name))
    flowers = {pid for pid in children(os.getpid()) if "/flower-" in words(pid)}
    assert len(flowers) == 6  # a SuperLink, two SuperNodes, and what starts their apps
    assert addresses(flowers) == {"127.0.0.1"}


def test_a_seat_without_features_has_a_node_of_its_own() -> None:
    check_runtime(Flower(), small("contrastive"))


def test_the_hub_may_be_a_party() -> None:
    check_runtime(Flower(), small("baseline"))


@pytest.mark.usefixtures("_deployed")
def test_the_same_numbers_with_frames_as_messages_of_flower() -> None:
    file = small("labels", trials=[])
    settings = file.scenario.model_copy(update={"steps": 1, "evaluate": 1})
    check_runtime(Flower(transport="flower"), file.model_copy(update={"scenario": settings}))


@pytest.mark.usefixtures("_deployed")
def test_the_same_figures_of_an_appraisal() -> None:
    check_runtime(Flower(), small("appraisal"))


@pytest.mark.usefixtures("_deployed")
def test_the_same_numbers_with_a_table_a_seat(tmp_path: Path) -> None:
    check_runtime(Flower(), scenario(write(tmp_path)))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    return tmp_path


def test_the_project_is_an_app_for_a_superlink_that_is_there(here: Path) -> None:
    """Nodes that name their party, and an app that is handed in with Flower's own command."""
    alone = {VOICE: ""}  # as for a node that somebody else has started
    deployed = Deployment({"a": alone, "b": alone}, verbose=False)
    try:
        settings = f"scenario='{here}/s.yaml' set='scenario.steps=7; scenario.batch=5' out='{here}/led' simulate=true"
        command = [Path(sys.executable).with_name("flwr"), "run", ROOT, "--run-config", settings, "--stream"]
        env = {**os.environ, "FLWR_HOME": str(deployed.voice.parent / "run"), **SWITCHES}
        said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert f"run folder: {here}/led" in said.stdout, said.stdout + said.stderr
    finally:
        deployed.end()
    assert "server SIMULATES: without a secret of its own its noise" in said.stdout + said.stderr
    fine("run", "s.yaml", "--out", "alone", "--set", "scenario.steps=7", "--set", "scenario.batch=5")
    sources = json.loads((here / "led/manifest.json").read_text())["noise_source"]
    assert sources == dict.fromkeys(("server", "a", "b"), "seed")
    fine("report", "led")
    assert "weights of all seats follow from the public seed" in (here / "led/report.html").read_text()
    led, alone_ = (json.loads((here / name / "summary.json").read_text()) for name in ("led", "alone"))
    assert (led["weights_sha256"], led["task"]) == (alone_["weights_sha256"], alone_["task"])


@contextmanager
def nodes(
    folder: Path, settings: Mapping[str, str], proxy: Proxy | None = None
) -> Iterator[tuple[Deployment, list[Path]]]:
    """A SuperLink, a SuperNode with its own settings for each party, perhaps behind a proxy, and what they print."""
    deployed, started, logs = Deployment({}, verbose=False), [], []
    address = re.search(r'address = "(.+)"', (deployed.voice.parent / "run/config.toml").read_text())
    assert address is not None
    superlink = address[1]
    if proxy is not None:
        proxy.open(superlink)
        superlink = proxy.address
    try:
        for name, config_ in settings.items():
            logs.append(folder / f"{name}.log")
            command = [Path(sys.executable).with_name("flower-supernode"), "--insecure", "--superlink", superlink]
            command += ["--host", "127.0.0.1", "--port", str(free_port("127.0.0.1")), "--node-config", config_]
            path = os.pathsep.join([str(command[0].parent), os.environ["PATH"]])
            env = {**os.environ, **SWITCHES, "FLWR_HOME": str(folder / f"home-{name}"), "PATH": path}
            with logs[-1].open("wb") as log:
                started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True))
        yield deployed, logs
    finally:
        pids = {pid for process in started for pid in children(process.pid)}
        for pid in [*(process.pid for process in started), *pids]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in started:
            process.wait()
        deployed.end()


def submit(deployed: Deployment, settings: str) -> str:
    """Hand a run in with Flower's own command; what was said until its end."""
    command = [Path(sys.executable).with_name("flwr"), "run", ROOT, "--run-config", settings, "--stream"]
    env = {**os.environ, "FLWR_HOME": str(deployed.voice.parent / "run"), **SWITCHES}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return ended.stdout + ended.stderr


def test_each_node_has_its_own_table_secret_and_key(here: Path) -> None:
    """As in a deployment: every party's settings name its own things, and the ServerApp's those of the hub.

    Weights are others in each of two runs, and than in a simulation; what does not depend on them is the same.
    """
    paths = write(here / "data", shuffle=3)
    for role in paths:
        (here / "data" / role / "secret").write_text(f"hushed {role}\n")
    (here / "ids").write_text("a key\n")
    own = {
        role: f'data="{where}" secret="{here}/data/{role}/secret" ids_key="{here}/ids"'
        for role, where in {**paths, "east": here / "data" / "east"}.items()  # of one of them the folder
    }
    (here / "own.yaml").write_text(json.dumps(scenario().resolved()))
    hub, said = own["server"].replace('"', "'"), ""
    with nodes(here, {role: f'party="{role}" {own[role]}' for role in ("north", "east")}) as (deployed, logs):
        for out in ("led", "again"):
            said += submit(deployed, f"scenario='{here}/own.yaml' out='{here}/{out}' {hub}")
            assert f"run folder: {here}/{out}" in said, said
        without = submit(deployed, f"scenario='{here}/own.yaml' out='{here}/none' data='{paths['server']}'")
        assert "server has no secret of its own, so that everybody who has the scenario file could" in without
        printed = [path.read_bytes() for path in [*logs, *deployed.voice.parent.glob("*.log")]]
    alone = experiment.run(scenario(paths), here / "alone", pages=False)
    led, again, one = (
        json.loads((path / "summary.json").read_text()) for path in (here / "led", here / "again", alone)
    )
    assert all(len({run["weights_sha256"][role] for run in (led, again, one)}) == 3 for role in paths)
    assert led["traffic"] == again["traffic"] == one["traffic"]
    assert led["baseline"] == again["baseline"] == one["baseline"]
    sources = json.loads((here / "led/manifest.json").read_text())["noise_source"]
    assert sources == dict.fromkeys(paths, "secret")
    left = [path.read_bytes() for path in (here / "led").rglob("*") if path.is_file()]
    seen = [*printed, *left, said.encode()]
    assert [each for each in seen if any(word in each for word in (MARK.encode(), b"a key", b"hushed"))] == []


def test_nothing_that_a_party_keeps_reaches_the_superlink_the_hub_or_a_log(here: Path) -> None:
    """One party shares everything, which is the control, and the other nothing: its folder alone has what it owns."""
    paths = marked_tables.write(here / "data")
    (here / "ids").write_text("a key\n")
    own, proxy = {}, Proxy()
    for role, path in paths.items():
        (here / "data" / role / "secret").write_text(f"hushed {role}\n")
        own[role] = f'data="{path}" secret="{here}/data/{role}/secret" ids_key="{here}/ids"'
    shares = {"north": " samples=3 share_model=true share_schema=true", "east": ""}
    (here / "own.yaml").write_text(json.dumps(marked_tables.scenario({}, **marked_tables.ATTACKED).resolved()))
    settings = {
        role: f'party="{role}" runs="{here}/data/{role}/runs" {own[role]}{more}' for role, more in shares.items()
    }
    with nodes(here, settings, proxy) as (deployed, logs):
        hub = own["server"].replace('"', "'")
        words_ = f"scenario='{here}/own.yaml' out='{here}/led' {hub}"
        command = [Path(sys.executable).with_name("flwr"), "run", ROOT, "--run-config", words_, "--stream"]
        env = {**os.environ, "FLWR_HOME": str(deployed.voice.parent / "run"), **SWITCHES}
        said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert f"run folder: {here}/led" in said.stdout, said.stdout + said.stderr
        printed = {str(path): path.read_bytes() for path in [*logs, *deployed.voice.parent.glob("*.log")]}
    places = {**marked_tables.read_folder(here / "led"), **printed, "run": (said.stdout + said.stderr).encode()}
    places["superlink"] = proxy.close()
    for party, shared in (("north", True), ("east", False)):
        (folder,) = (here / "data" / party / "runs").iterdir()
        (shown,) = folder.rglob("*-shown.safetensors")
        (report,) = (json.loads((each / "summary.json").read_text()) for each in (folder,))
        hubs = json.loads((here / "led" / "summary.json").read_text())
        assert report["weights_sha256"][party] == hubs["weights_sha256"][party]
        owned = {**marked_tables.marks(party), **marked_tables.marks_of(f"{party} truth", load_file(shown)["truth"])}
        owned |= marked_tables.marks_of(
            f"{party} weights", load_file(folder / f"model/{party}.safetensors")["0.weight"]
        )
        found = marked_tables.search(places, owned)
        assert bool(found) == shared, found
        assert not [each for each in found if "patient" in each]
        page = fine("report", "--own", folder)  # Flower brings code only, without the templates of pages
        assert "Truth and reconstruction" in Path(page.removeprefix("report: ").strip()).read_text()
        if shared:
            assert {each.partition(": ")[0] for each in found} >= {"superlink", f"{here}/led/model/{party}.safetensors"}


def test_a_node_without_a_secret_says_what_it_needs(here: Path) -> None:
    (here / "hub").write_text("of the hub")
    with nodes(here, {"a": 'party="a"', "b": 'party="b" simulate=true'}) as (deployed, _):
        said = submit(deployed, f"scenario='{here}/s.yaml' out='{here}/led' secret='{here}/hub' wait=120")
    assert "a has no secret of its own, so that everybody who has the scenario file could subtract its noise" in said, (
        said
    )


def test_what_is_wrong_at_a_seat_is_said_as_on_one_event_loop(here: Path) -> None:
    (here / "table.csv").write_text("u,v\n1,2\n")
    alone, apart = fedsim("run", "s.yaml"), fedsim("run", "s.yaml", "--runtime", "flower", "--out", "apart")
    assert (apart.code, apart.err.splitlines()[-1]) == (alone.code, alone.err.splitlines()[-1])


def until(happens: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
        time.sleep(0.05)


@contextmanager
def training(here: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """An endless run that is at work, and its temporary folder; at the end nothing may be left of it."""
    (temporary := here / "t").mkdir()
    command = [sys.executable, "-m", "fedsim", "run", "s.yaml", "--runtime", "flower", "--out", "one"]
    command += ["--set", "scenario.steps=1000000"]
    env = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            log = here / "one" / "metrics.jsonl"
            trains = lambda: log.exists() and '"step": 100,' in log.read_text()  # noqa: E731
            until(lambda: trains() or process.poll() is not None, "training")
            started = children(process.pid)
            assert any("flwr-clientapp" in words(pid) for pid in started), process.communicate()
            yield process, temporary
        finally:
            process.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "the end of Flower")
    until(lambda: not list(temporary.glob("fedsim-*")), "the end of its folder")


def client(process: subprocess.Popen[str]) -> int:
    return next(pid for pid in children(process.pid) if "flwr-clientapp" in words(pid))


def test_a_party_that_is_killed_is_named_and_nothing_secret_is_left(here: Path) -> None:
    with training(here) as (process, temporary):
        seen = [words(pid).encode() for pid in children(process.pid)]
        seen += [path.read_bytes() for path in temporary.rglob("*.log")]
        os.kill(client(process), signal.SIGKILL)
        err = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 1
        why = r"fedsim: the process of (a|b) was killed or crashed after training step \d+\n"
        assert re.search(why, err), err
        assert "Traceback" not in err
    left = [path.read_bytes() for path in (here / "one").rglob("*") if path.is_file()]
    assert len(seen) > 10
    assert [each for each in seen + left if b"PRIVATE KEY" in each] == []
    assert [each for each in seen if OURS.search(each)] == []
    digest = config.read("s.yaml", ["scenario.steps=1000000"]).digest().encode()
    data = json.loads((here / "one" / "manifest.json").read_text())["data_sha256"].encode()
    assert {each for block in left for each in HEX.findall(block)} == {digest, data}
    assert "was killed or crashed" in (here / "one" / "manifest.json").read_text()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_an_interrupt_or_when_the_starter_is_killed(here: Path, how: signal.Signals) -> None:
    with training(here) as (process, _):
        process.send_signal(how)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == (130 if how == signal.SIGINT else -how)


def test_without_flower_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape("Flower is not installed; pip install 'fedsim-vfl[flower]'")):
        Flower().run(small("baseline"), lambda role, row: None)


def test_a_run_does_not_depend_on_what_the_machine_has_set_up_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile_environment: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    fine("run", "s.yaml", "--out", "alone")
    said = fedsim("run", "s.yaml", "--runtime", "flower", "--out", "apart")
    assert said.code == 0, said.err
    (line,) = (line for line in said.err.splitlines() if "ignored" in line)
    assert line.startswith("s: ignored: FLWR_DATABASE=/")
    assert line.endswith(", FLWR_HOME=/proc/none; this run starts a Flower of its own")
    alone, apart = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("alone", "apart"))
    assert (alone["weights_sha256"], alone["task"]) == (apart["weights_sha256"], apart["task"])
    assert list(hostile_environment.glob("fedsim*")) == []
