"""A run that was cut short and taken up again is the run that was not; the files that it is taken up from."""

from __future__ import annotations

import asyncio
import errno
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small import SMALL, small
from terminal import TABLE, fedsim, fine, write_table

from fedsim import config, experiment
from fedsim import shelf as fedsim_shelf
from fedsim.config import ScenarioFile
from fedsim.errors import OutputError
from fedsim.net import Watch
from fedsim.parties import wrappers as wrapper_package
from fedsim.plan import Scenario
from fedsim.play import play
from fedsim.plugins import find, names
from fedsim.runtime.local import Local, memory
from fedsim.runtime.processes import Processes
from fedsim.seeding import Rng, simulated_secret
from fedsim.shelf import Shelf, place
from fedsim.supervision import keeping
from fedsim.testing.runtimes import _check_equal
from fedsim.threat import Wrapper

EVERY = {"checkpoint": {"every": 2}}
RICH = {  # an attack whose state grows, stages with state, and an optimiser without memory
    "cafe": {
        **SMALL["leakage"],
        "trials": [
            {
                "attack": {"kind": "cafe", "alpha": 0.1, "iterations": 3},
                "seat": "server",
                "victim": "*",
                "knows": ["rows", "bottom"],
            },
            {
                "attack": {"kind": "cafe", "loop": "single", "solver": "iterative"},
                "seat": "server",
                "victim": "north",
                "knows": ["rows", "bottom"],
            },
            {
                "attack": {"kind": "dlg", "batches": 4, "iterations": 3},
                "seat": "server",
                "victim": "north",
                "knows": ["rows", "bottom"],
            },
        ],
        "links": [
            {
                "to": "server",
                "message": "ParameterGradient",
                "sender": [{"kind": "topk", "keep": 0.5, "feedback": True}],
            },
            {"from": "north", "message": "Embedding", "sender": [{"kind": "fake_gradient"}]},
        ],
    },
    "window": {
        "scenario": {**SMALL["leakage"]["scenario"], "window": {"from": 2, "rounds": 6}, "optimiser": {"kind": "sgd"}},
        "trials": SMALL["leakage"]["trials"],
    },
    "shared at a party": {
        "scenario": {**SMALL["baseline"]["scenario"], "exchange": "shared", "optimiser": {"kind": "momentum"}}
    },
    "dann": {**SMALL["uda_poisoning"], "scenario": {**SMALL["uda_poisoning"]["scenario"], "learner": {"kind": "dann"}}},
    "screened": {
        **SMALL["uda_poisoning"],
        "scenario": {**SMALL["uda_poisoning"]["scenario"], "trim": 0.1, "knn": 3, "cap": 0.5},
    },
    "components": {  # clusters before the first step, a top alone in the second stage
        "scenario": {
            **SMALL["contrastive"]["scenario"],
            "pretraining": {"kind": "advcl", "pseudo": {"sizes": [2, 5]}},
            "finetuning": {"mode": "alf", "steps": 5, "batch": 20},
        },
        "links": [{"from": "north", "message": "Embedding", "sender": [{"kind": "fake_gradient"}]}],
    },
    "supervised": {
        "scenario": {
            **SMALL["contrastive"]["scenario"],
            "pretraining": None,
            "precision": "bfloat16",
            "finetuning": {"mode": "aff", "steps": 12, "batch": 20, "optimiser": {"kind": "momentum"}},
        }
    },
    "collision": {
        "scenario": {**SMALL["uda_poisoning"]["scenario"], "grants": {"server": ["slices", "target_labels"]}},
        "seats": {
            "server": [{"kind": "feature_collision", "plotters": ["north"], "rounds": 2, "moves": 2, "models": 2}],
            "north": [{"kind": "crafted_slice"}],
        },
    },
    "stuck": {
        **SMALL["weight_faults"],
        "seats": {
            "north": [{"kind": "stuck", "count": 3, "at": 2}, {"kind": "gaussian", "sigma": 0.1, "at": 5}],
            "server": [{"kind": "weight_pgd", "at": "inference"}],
        },
    },
}


def _found(group: str, name: str) -> Any:
    return find(group, name, {"scenarios": Scenario, "wrappers": Wrapper}[group])


PLAIN = [
    name
    for name, settings in SMALL.items()
    if name != "minmax" and _found("scenarios", settings["scenario"]["kind"]).resumes
]


def made(name: str) -> ScenarioFile:
    settings = RICH[name] if name in RICH else SMALL[name]
    return config.validate({"name": name, **settings, **EVERY}, name, {})


class Cut(Exception):
    """The machine goes dark."""


def until(step: int) -> Watch:
    """Watches until the training has come to a step."""

    def watch(role: str, row: Mapping[str, Any]) -> None:
        if "loss" in row and row["step"] == step:
            raise Cut

    return watch


@pytest.mark.parametrize("name", [*PLAIN, *RICH])
def test_a_run_that_is_taken_up_is_the_run_that_was_not_cut_short(name: str, tmp_path: Path) -> None:
    whole = Local().run(small(name) if name in SMALL else made(name), lambda role, row: None)
    file, last = keeping(made(name), tmp_path), 0
    for step in (3, 8, 11):
        with pytest.raises(Cut):
            Local().run(file, until(step))
        done = [int(path.stem.split("-")[1]) for path in tmp_path.glob("*/step-*")]
        assert last < max(done) <= step + 1
        last = max(done)
    shown: list[Mapping[str, Any]] = []
    for mine, theirs in zip(Local().run(file, lambda role, row: shown.append(row)), whole, strict=True):
        _check_equal(mine, theirs, mine.role)
    assert {"notice": "all go on after training step 10"} in shown
    assert [row["step"] for row in shown if "loss" in row] == [10, 11]


def test_what_a_server_learns_alone_is_learned_again(tmp_path: Path) -> None:
    """A linear top on embeddings that were shown once: the last part is that of the pre-training's end."""
    settings = {**SMALL["contrastive"]["scenario"], "finetuning": {"mode": "slf", "steps": 5, "batch": 20}}
    file = config.validate({"name": "slf", "scenario": settings, **EVERY}, "slf", {})
    whole, shown = Local().run(file, lambda role, row: None), list[Mapping[str, Any]]()
    file = keeping(file, tmp_path)
    with pytest.raises(Cut):
        Local().run(file, until(9))
    for mine, theirs in zip(Local().run(file, lambda role, row: shown.append(row)), whole, strict=True):
        _check_equal(mine, theirs, mine.role)
    assert {"notice": "all go on after training step 7"} in shown


def test_pre_training_goes_on_in_other_processes(tmp_path: Path) -> None:
    file = keeping(made("contrastive"), tmp_path)
    with pytest.raises(Cut):
        Local().run(file, until(4))
    assert not [path for path in tmp_path.iterdir() if "registry" in path.name]
    whole = Local().run(small("contrastive"), lambda role, row: None)
    for mine, theirs in zip(Processes().run(file, lambda role, row: None), whole, strict=True):
        _check_equal(mine, theirs, mine.role)


@pytest.mark.parametrize("rule", ["minmax", "static"])
def test_attacks_that_are_over_are_not_played_again_and_the_others_go_on(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `minmax` nothing that is logged has a step: it is cut at so many answers, and victims do not train again."""
    monkeypatch.setenv("FEDSIM_CACHE", "off")
    settings = {**SMALL["minmax"]["scenario"], "attack": {"iterations": 6, "rule": rule}}
    file = config.validate({"name": "minmax", "scenario": settings, **EVERY}, "minmax", {})
    shown: list[str] = []

    def note(role: str, row: Mapping[str, Any]) -> None:
        shown.append(row.get("claim") or row.get("notice", ""))

    whole = Local().run(file, note)
    passed = Counter(shown)
    file = keeping(file, tmp_path)
    for title in ("linf 0.2", "l1 4"):
        assert passed[title] > 6

        def watch(role: str, row: Mapping[str, Any], title: str = title) -> None:
            note(role, row)
            if shown.count(title) > passed[title] / 2:
                raise Cut

        shown.clear()
        with pytest.raises(Cut):
            Local().run(file, watch)
    shown.clear()
    for mine, theirs in zip(Local().run(file, note), whole, strict=True):
        _check_equal(mine, theirs, mine.role)
    assert not [line for line in shown if "trains its model" in line]
    assert shown.count("linf 0.2") == 1


def test_every_scenario_and_wrapper_that_takes_checkpoints_is_tried_here() -> None:
    kinds = {name for name in names("scenarios") if _found("scenarios", name).resumes}
    assert kinds == {"minmax", *(made(name).scenario.kind() for name in [*PLAIN, *RICH])}
    tried = [*(SMALL[name] for name in PLAIN), *RICH.values()]
    around = [each for settings in tried for each in settings.get("seats", {}).values()]
    wrapped = {wrapper["kind"] for wrappers in around for wrapper in wrappers}
    stateless = {"shifted", "silent"}
    assert {name for name in names("wrappers") if _found("wrappers", name).resumes} == wrapped | stateless


def test_rows_of_a_party_are_in_no_part(tmp_path: Path) -> None:
    file = keeping(made("cafe"), tmp_path)
    Local().run(file, lambda role, row: None)
    secrets = simulated_secret(file.seed, "north")
    party = file.plan().seats["north"].build(Rng.root(file.seed), Rng.secret(secrets))
    rows = [row.numpy().tobytes() for kind in party.bottom.features.values() for row in kind]  # type: ignore[attr-defined]
    assert len(rows) == 120
    for path in tmp_path.glob("seat-north/*"):
        assert path.stat().st_mode & 0o077 == 0
        assert not any(row in path.read_bytes() for row in rows), path


# the files


def tree(value: float) -> tuple[str, dict[str, torch.Tensor]]:
    return "{}", {"w": torch.full((64,), value)}


def shelf(folder: Path, experiment: str = "x") -> Shelf:
    return Shelf(folder, "north", experiment, 3)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Shelf]:
    """A shelf with parts after 2, 4 and 6 steps, and a row a step."""
    own, rows = shelf(tmp_path), [{"step": step, "loss": float("nan")} for step in range(10)]
    own.begin(None)
    for done in (2, 4, 6):
        own.put(done, done + 1, "m", tree(done), rows[:done])
    own.settle()
    yield own
    own.close()


def test_parts_come_back_with_the_rows_until_then(kept: Shelf) -> None:
    found = kept.whole()
    assert {done: (part.step, part.mark) for done, part in found.items()} == {2: (3, "m"), 4: (5, "m"), 6: (7, "m")}
    assert torch.equal(found[4].state[1]["w"], tree(4)[1]["w"])
    assert [row["step"] for row in kept.begin(found[4])] == [0, 1, 2, 3]
    assert sorted(kept.whole()) == [2, 4]


def test_only_the_last_are_kept(kept: Shelf) -> None:
    for done in (8, 10):
        kept.put(done, done + 1, "m", tree(done), [{"step": step} for step in range(done)])
    kept.settle()
    assert sorted(kept.whole()) == [6, 8, 10]
    assert [path.name for path in kept.folder.iterdir() if path.name.startswith(".")] == []


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path: Path) -> None:
    block = bytearray(path.read_bytes())
    block[-3] ^= 4
    path.write_bytes(block)


def other_numbers(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tree(7)[1], path, metadata)


def other_words(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tree(6)[1], path, {**metadata, "part": metadata["part"].replace('"step": 7', '"step": 8')})


@pytest.mark.parametrize("spoil", [cut_off, flipped, other_numbers, other_words])
def test_a_part_that_is_not_whole_is_left_out_by_name(kept: Shelf, spoil: Callable[[Path], None]) -> None:
    (path,) = kept.folder.glob("step-0000000006-*")
    spoil(path)
    assert sorted(kept.whole()) == [2, 4]
    assert [line.partition(": not whole: ")[0] for line in kept.broken] == [str(path)]


def test_a_part_whose_rows_are_others_is_left_out(kept: Shelf) -> None:
    log = kept.folder / "rows.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"step": 5', b'"step": 9'))
    assert sorted(kept.whole()) == [2, 4]


def test_parts_of_another_experiment_or_seat_are_none_of_ours(kept: Shelf, tmp_path: Path) -> None:
    assert shelf(tmp_path, "y").whole() == {}
    assert Shelf(tmp_path, "east", "x", 3).whole() == {}


def test_a_full_disk_leaves_the_part_before(kept: Shelf) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = [{"step": step, "note": "x" * 4000} for step in range(8)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        kept.put(8, 9, "m", tree(8), rows)
        why = r"^north cannot keep its part of the checkpoint after training step 8: File too large \(.*\); the one before is"
        with pytest.raises(OutputError, match=why):
            kept.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(kept.whole()) == [2, 4, 6]
    kept.put(8, 9, "m", tree(8), rows)
    kept.settle()
    assert sorted(kept.whole()) == [4, 6, 8]
    assert [row["step"] for row in kept.begin(kept.whole()[8])] == list(range(8))


def test_a_folder_that_cannot_be_written_leaves_the_part_before(kept: Shelf) -> None:
    away = kept.folder.rename(kept.folder.with_name("away"))
    kept.folder.touch()
    kept.put(8, 9, "m", tree(8), [])
    with pytest.raises(OutputError, match="Not a directory"):
        kept.put(10, 11, "m", tree(10), [])
    kept.folder.unlink()
    away.rename(kept.folder)
    assert sorted(kept.whole()) == [2, 4, 6]


# runs


SCENARIO = TABLE + "checkpoint: {every: 2}\ncompare: {one: {}, two: {seed: 4}}\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that is never cut short."""
    folder = tmp_path_factory.mktemp("whole")
    write_table(folder / "table.csv")
    (folder / "s.yaml").write_text(SCENARIO.replace("table.csv", str(folder / "table.csv")))
    fine("run", folder / "s.yaml", "--out", folder / "run")
    return folder / "run"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return tmp_path


def same(one: Path, other: str) -> None:
    """Equal summaries, rows, models and pages, but for seconds and times."""
    summaries = [json.loads(Path(run, "summary.json").read_text()) for run in (one, other)]
    for summary in summaries:
        for arm in (summary, *summary["arms"].values()):
            arm["seconds"] = arm["runtime"] = None
    assert summaries[0] == summaries[1]
    for name in (
        "metrics.jsonl",
        "seats.json",
        *(str(p.relative_to(one)) for p in Path(one).glob("model/**/*.safetensors")),
    ):
        assert Path(one, name).read_bytes() == Path(other, name).read_bytes(), name
    assert not Path(other, "checkpoints").exists()


def cut_short(step: int, arm: str = "two") -> None:
    file = config.read("s.yaml")
    with pytest.raises(Cut):
        experiment.run(
            file, Path("cut"), started=lambda title, _: until(step) if title == arm else lambda role, row: None
        )


def test_a_run_is_resumed_on_the_command_line_and_an_arm_that_is_over_is_not_played_again(
    here: Path, whole: Path
) -> None:
    cut_short(4)
    assert json.loads(Path("cut/manifest.json").read_text())["status"] == "failed"
    said = fedsim("resume", "cut").err
    assert "two: all go on after training step 4" in said
    assert "one: " not in said
    same(whole, "cut")
    assert len(json.loads(Path("cut/manifest.json").read_text())["resumed"]) == 1


def test_a_run_is_resumed_on_another_runtime(here: Path, whole: Path) -> None:
    cut_short(3)
    fine("resume", "cut", "--runtime", "processes")
    same(whole, "cut")


@pytest.mark.parametrize("at", ["seed 0, two", "seed 1, one"])
def test_of_a_run_over_seeds_those_that_are_not_complete_are_resumed(here: Path, at: str) -> None:
    experiment.run_seeds(config.read("s.yaml"), 2, Path("calm"))
    with pytest.raises(Cut):
        experiment.run_seeds(
            config.read("s.yaml"),
            2,
            Path("cut"),
            started=lambda title, _: until(4) if title == at else lambda role, row: None,
        )
    said = fedsim("resume", "cut")
    assert (said.code, f"{at}: all go on after training step 4" in said.err) == (0, True), said.err
    assert "seed 0, one" not in said.err
    summaries = [json.loads(Path(run, "summary.json").read_text()) for run in ("calm", "cut")]
    for arm in (arm for summary in summaries for arm in summary["arms"].values()):
        arm["seconds"] = None
    assert summaries[0] == summaries[1]
    assert Path("cut/report.html").exists()


def test_a_run_whose_process_is_killed_is_resumed(here: Path, whole: Path) -> None:
    words = ["run", "s.yaml", "--out", "cut"]
    kills = (
        "import os, fedsim.experiment as e; was = e._play_arm\n"
        "def play(arm, place, watch):\n"
        "    return was(arm, place, lambda role, row: os.kill(os.getpid(), 9) if row.get('step') == 3 else watch(role, row))\n"
        f"e._play_arm = play; import sys; sys.argv = ['fedsim', *{words}]; from fedsim.cli import main; main()"
    )
    assert subprocess.run([sys.executable, "-P", "-c", kills], check=False).returncode == -signal.SIGKILL
    assert json.loads(Path("cut/manifest.json").read_text())["status"] == "running"
    fine("resume", "cut")
    same(whole, "cut")


def test_a_full_disk_ends_the_run_with_one_line_and_it_is_resumed(
    here: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, block: bytes) -> None:
        if path.name.startswith("step-0000000004-") and path.parent.name == "seat-a":
            raise OSError(errno.ENOSPC, "No space left on device")
        place(path, block)

    with monkeypatch.context() as patch:
        patch.setattr(fedsim_shelf, "place", full)
        said = fedsim("run", "s.yaml", "--out", "cut")
    (line,) = (line for line in said.err.splitlines() if line.startswith("fedsim:"))
    assert line.startswith(
        "fedsim: a cannot keep its part of the checkpoint after training step 4: No space left on device ("
    )
    assert said.code == 2
    fine("resume", "cut")
    same(whole, "cut")


IDLE = '''
from fedsim.threat import Wrapper


class Idle(Wrapper):
    """Does nothing, and does not say so."""

    def wrap(self, role, rng):
        return role
'''


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda: None, "cannot be resumed: it is complete"),
        (
            lambda: Path("table.csv").write_text(Path("table.csv").read_text().replace("1", "2")),
            "its data is not what it was",
        ),
        (lambda: _edit("seed: 0", "seed: 1"), "its scenario.yaml is experiment "),
        (lambda: _edit("every: 2", "every: 0"), "checkpoint.every: expected at least 1, found 0"),
    ],
)
def test_what_cannot_be_resumed_is_refused(here: Path, whole: Path, prepare: Callable[[], object], why: str) -> None:
    if "complete" in why:
        shutil.copytree(whole, "cut")
    else:
        cut_short(3)
    prepare()
    said = fedsim("resume", "cut")
    assert (said.code, why in said.err) == (2, True), said.err


def _edit(before: str, after: str) -> None:
    path = Path("cut/scenario.yaml")
    path.write_text(path.read_text().replace(before, after))


def test_a_run_without_checkpoints_says_how_to_have_some(here: Path) -> None:
    (here / "s.yaml").write_text(TABLE)
    with pytest.raises(Cut):
        experiment.run(config.read("s.yaml"), Path("cut"), started=lambda title, _: until(3))
    assert "it takes no checkpoints; add checkpoint: {every: STEPS}" in fedsim("resume", "cut").err


def test_what_could_not_be_taken_up_again_refuses_checkpoints(
    here: Path, monkeypatch: pytest.MonkeyPatch, add_kind: Callable[[Any, str, str], str]
) -> None:
    kind = add_kind(wrapper_package, "idle", IDLE)
    said = fedsim("check", "s.yaml", "--set", f"seats={{a: [{{kind: {kind}}}]}}")
    why = "checkpoint: a wrapper of kind 'idle' does not say what its state is, and could not be resumed; leave checkpoint out"
    assert (said.code, why in said.err) == (2, True), said.err
    monkeypatch.setattr(find("scenarios", "baseline", Scenario), "resumes", False)
    said = fedsim("check", "s.yaml")
    assert (said.code, "checkpoint: a scenario of kind 'baseline' does not say" in said.err) == (2, True), said.err


def test_seats_that_take_checkpoints_at_other_steps_do_not_play_together(tmp_path: Path) -> None:
    files = {role: keeping(made("labels"), tmp_path) for role in ("server", "north", "east")}
    other = files["east"].checkpoint.model_copy(update={"every": 3})  # type: ignore[union-attr]
    files["east"] = files["east"].model_copy(update={"checkpoint": other})
    transports = memory(files["server"].plan())

    async def all_() -> None:
        async with asyncio.TaskGroup() as group:
            for role, file in files.items():
                group.create_task(play(file, role, transports[role]))

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(all_())
    assert any("or not the same checkpoint.every" in str(error) for error in raised.value.exceptions)
