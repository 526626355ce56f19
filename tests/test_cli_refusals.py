"""What a user may get wrong: one clear line, exit code 2, and no folder left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import TABLE, fedsim, fine, refused, write_table

NORM = "trials: [{{attack: {{kind: norm_scoring}}, seat: {}, victim: {}, knows: {}}}]\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDSIM_DATA", raising=False)
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    return tmp_path


FILES = [
    # what is no scenario file at all
    ("", "s.yaml: empty; expected a mapping"),
    ("# nothing\n", "s.yaml: empty"),
    ("- 1\n", "s.yaml: expected a mapping with at least 'scenario', found list"),
    ("a: \0\n", "s.yaml: not YAML"),
    ("scenario:\n  kind: baseline\n  data: {kind: csv\n", "s.yaml:4: expected ',' or '}'"),
    ("scenario:\n\tkind: baseline\n", "s.yaml:2: found character '\\t'"),
    (BOMB, "s.yaml: more than 20000 values once its aliases are written out"),
    ("scenario: !!python/object/apply:os.system [ls]\n", "os.system' is refused: a scenario file names no code"),
    ("a: " + "[" * 5000, "s.yaml: nested too deeply"),
    # keys and kinds
    ("seed: 3\n", "s.yaml:1: scenario: missing, and it has no default"),
    (TABLE + "seeed: 3\n", "s.yaml:9: seeed: unknown key 'seeed'; did you mean 'seed'?"),
    (TABLE + "  stepz: 3\n", "s.yaml:9: scenario.stepz: unknown key 'stepz'; did you mean 'steps'? allowed: augment,"),
    (TABLE + "  steps: 7\n", "s.yaml:9: key 'steps' stands twice"),
    (
        TABLE.replace("kind: csv", "kind: csw"),
        "s.yaml:3: scenario.data: unknown kind 'csw' in data; did you mean 'csv'?",
    ),
    (TABLE.replace("kind: baseline", "kind: os.system"), "s.yaml:2: scenario: unknown kind 'os.system' in scenarios"),
    (
        TABLE.replace("kind: csv, path: table.csv, label: y, test: 0.3", "kind: domainz").replace(
            "baseline", "uda_poisoning"
        ),
        "scenario.data: unknown kind 'domainz' in data; did you mean 'domains'? allowed: domains, image_pair, photo_digits",
    ),
    (
        TABLE.replace("baseline", "uda_poisoning"),
        "scenario.data: kind 'csv' in data does not fit here; allowed: domains, image_pair, photo_digits",
    ),
    (
        TABLE.replace("data: {kind: csv,", "data: {").replace("baseline", "uda_poisoning"),
        "scenario.data: expected a mapping with a 'kind' out of: domains, image_pair, photo_digits; found",
    ),
    ("scenario: baseline\n", "s.yaml:1: scenario: expected a mapping with a 'kind' out of: baseline"),
    (TABLE + "  optimiser: {kind: adamw}\n", "optimiser.kind: expected sgd, momentum or adam (did you mean 'adam'?)"),
    (TABLE + "runtime: {kind: lokal}\n", "s.yaml:9: runtime: unknown kind 'lokal' in runtimes; did you mean 'local'?"),
    # types and ranges
    (TABLE.replace("steps: 6", "steps: six"), "s.yaml:8: scenario.steps: expected a whole number, found 'six'"),
    (TABLE.replace("steps: 6", "steps: 6.5"), "s.yaml:8: scenario.steps: expected a whole number, found 6.5"),
    (TABLE.replace("steps: 6", "steps: -6"), "s.yaml:8: scenario.steps: expected at least 1, found -6"),
    (TABLE.replace("steps: 6", "steps:"), "s.yaml:8: scenario.steps: expected a whole number, found nothing"),
    (TABLE + "  optimiser: {lr: .nan}\n", "s.yaml:9: scenario.optimiser.lr: expected a finite number, found nan"),
    (
        TABLE.replace("columns: w", "columns: {w: 1}"),
        "s.yaml:4: scenario.parties.b.columns: expected text or a list, found a mapping of w",
    ),
    (TABLE.replace("[8]", "[0]"), "s.yaml:5: scenario.bottom.hidden.0: expected more than 0, found 0"),
    (TABLE + "threads: 1000000\n", "s.yaml:9: threads: expected at most 1024, found 1000000"),
    (TABLE.replace("0.3", "1.0"), "s.yaml:3: scenario.data.test: expected a fraction between 0 and 1 or a count"),
    (TABLE + "trials: {a: 1}\n", "s.yaml:9: trials: expected a list, found a mapping of a"),
    # parties and columns
    (TABLE.replace('{a: {columns: "u, v"}, b: {columns: w}}', "{}"), "s.yaml:4: scenario.parties: expected at least 1"),
    (
        TABLE.replace('{a: {columns: "u, v"}, b: {columns: w}}', ""),
        "scenario.parties: expected a mapping, found nothing",
    ),
    (TABLE.replace("b: {columns: w}", "b:"), "s.yaml:4: scenario.parties.b: expected a mapping, found nothing"),
    (TABLE.replace("b: {", "server: {"), "'server' cannot name a party"),
    (TABLE.replace("b: {", "'b/../c': {"), "'b/../c' cannot name a party"),
    (TABLE.replace("b: {", "1: {"), "scenario.parties.1: its name must be text; found 1: put it in quotes"),
    (TABLE.replace("columns: w", "columns: [v, w]"), "column 'v' is given twice: to party 'a' and to party 'b'"),
    (TABLE.replace("columns: w", "columns: [w, x]"), "party 'b': the data has no column 'x'"),
    (TABLE.replace("u, v", "u"), "given to no party: 'v'; give them to a party or name them in 'drop'"),
    (TABLE.replace("columns: w", "columns: [w, y]"), "party 'b': column 'y' is the label, not a feature"),
    (TABLE.replace("columns: w", "columns: ''"), "party 'b' has no columns"),
    (TABLE + "  labels: c\n", "s.yaml:9: scenario.labels: no seat 'c'; allowed: a, b, server"),
    # data and models
    (TABLE.replace("batch: 8", "batch: 80"), "scenario.batch: 80 rows a batch, but there are only 42 training rows"),
    (TABLE.replace("label: y", "label: income"), "table.csv has no column 'income'; allowed: u, v, w, y"),
    (TABLE.replace("table.csv", "nix.csv"), "no data file 'nix.csv'; looked at: "),
    (TABLE.replace("columns: w", "columns: 3"), "party 'b': there is no column at position 3; allowed: 0 to 2"),
    (TABLE.replace("table.csv", "s.yaml"), "s.yaml, line 3: 4 cells, but the header line names 1 column"),
    (TABLE.replace("0.3", "60"), "1 training and 60 held-out rows are asked of 60 rows"),
    (TABLE.replace("kind: mlp, hidden: [8]", "kind: cnn"), "scenario.bottom: model kind 'cnn' takes images (C, H, W)"),
    (TABLE.replace("[8]", "[1000000000000]"), "takes more memory than there is"),
    (TABLE + "  augment: {shift: 2}\n", "scenario.augment: only images can be shifted"),
    # attacks, stages, seats
    (
        TABLE + NORM.format("a", "server", "[]"),
        "s.yaml:9: trials.0: attack 'norm_scoring' needs to know rows; granted:",
    ),
    (TABLE + NORM.format("a", "server", "[rows, moon]"), "trials.0.knows: nobody can grant 'moon'; allowed: rows"),
    (
        TABLE + NORM.format("a", "server", "[rowz]"),
        "trials.0.knows: nobody can grant 'rowz'; did you mean 'rows'? allowed",
    ),
    (
        TABLE + NORM.format("a", "server", "[rowz, moon]"),
        "trials.0.knows: nobody can grant 'rowz'; did you mean 'rows'?; nobody can grant 'moon'; allowed: rows",
    ),
    (TABLE + NORM.format("a", "server", "rows"), "trials.0.knows: expected a list, found 'rows'"),
    (TABLE + NORM.format("q", "server", "[rows]"), "s.yaml:9: trials.0.seat: no seat 'q'; allowed: a, b, server"),
    (TABLE + NORM.format("a", "q", "[rows]"), "s.yaml:9: trials.0.victim: no seat 'q'"),
    (TABLE + NORM.format("a", "a", "[rows]"), "attack 'norm_scoring' at a has no victim here"),
    (TABLE + NORM.format("a", "server", "[rows], metric: psnr"), "'psnr' does not suit 'norm_scoring'; allowed: auc"),
    (
        TABLE + "trials: [{attack: {kind: cafe}, seat: server, victim: '*', knows: [rows, bottom]}]\n",
        "attack 'cafe' at server has no victim here: it must see ParameterGradient, Model of a seat that holds features",
    ),
    (TABLE + "links: [{from: q}]\n", "s.yaml:9: links.0.from: no seat 'q'"),
    (TABLE + "links: [{message: Embeding}]\n", "links.0.message: no kind of message 'Embeding'; did you mean"),
    (TABLE + "links: [{from: a, to: b}]\n", "links.0: nothing flows there; in this scenario: Embedding a -> server"),
    (TABLE + "links: [{sender: [{kind: clipp}]}]\n", "unknown kind 'clipp' in defences; did you mean 'clip'?"),
    (TABLE + "links: [{sender: [{kind: gaussian_noise, sigma: -1}]}]\n", "links.0.sender.0.sigma: expected more than"),
    (TABLE + "seats: {q: []}\n", "seats: no seat 'q'; allowed: a, b, server"),
    (TABLE + "placement: {q: {gpus: 1}}\n", "placement: no seat 'q'; allowed: a, b, server"),
    # arms
    (TABLE + "compare: [x]\n", "s.yaml:9: compare: expected a mapping, found a list of 1"),
    (TABLE + "compare: {x: 3}\n", "s.yaml:9: compare.x: expected a mapping, found 3"),
    (TABLE + "compare: {1: {}}\n", "compare.1: its name must be text"),
    (TABLE + "compare:\n  x:\n    scenario: {batch: no}\n", "s.yaml:11: compare.x: scenario.batch: expected"),
    (
        TABLE + "compare: {x: {scenario: {batchh: 3}}}\n",
        "compare.x: scenario.batchh: unknown key 'batchh'; did you mean",
    ),
    (TABLE + "compare: {x: {}, y: {scenario: {batch: 80}}}\n", "compare.y: scenario.batch: 80 rows a batch"),
    (TABLE + "compare: {x: {}, y: {scenario: {labels: c}}}\n", "compare.y: scenario.labels: no seat 'c'"),
    (TABLE + "compare: {x: {compare: {y: {}}}}\n", "compare.x: compare: an arm cannot have arms"),
    (TABLE + "compare: {x: {runtime: {kind: moon}}}\n", "compare.x: runtime: unknown kind 'moon'"),
]


@pytest.mark.parametrize(("text", "line"), FILES, ids=[line[:40] for _, line in FILES])
def test_a_wrong_file_is_refused_in_one_line_and_leaves_nothing(here: Path, text: str, line: str) -> None:
    (here / "s.yaml").write_text(text)
    assert line in refused("run", "s.yaml")
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("u,v,w,y\n", "table.csv has no rows"),
        ("", "table.csv is empty; expected a table"),
        ("u,v,w,y,y\n1,2,p,0,0\n", "table.csv has two columns named 'y'"),
        (
            "u,v,w,y\n" + "1,2,p,0\n" * 30 + ",2,p,1\n" * 30,
            "column 'u' of table.csv has 20 missing cells (NaN), the first in line 32",
        ),
        ("u,v,w,y\n" + "1,2,p,0\n" * 30 + "inf,2,p,1\n" * 30, "column 'u' of table.csv has 20 cells that are infinite"),
        ("u,v,w,y\n" + "1,2,p,0\n" * 60, "the training labels have only one class, '0'"),
        ("u,v,w,y\n" + "1,2,p,\n" * 60, "label column 'y' of table.csv has 60 missing cells"),
        ("\x89PNG\r\n\x1a\n\0\0", "table.csv"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line_and_leaves_nothing(here: Path, table: str, line: str) -> None:
    (here / "table.csv").write_text(table, encoding="latin-1")
    assert line in refused("run", "s.yaml")
    assert not (here / "runs").exists()


def test_a_window_beyond_the_steps(here: Path) -> None:
    shared = TABLE.replace("kind: baseline", "kind: leakage\n  exchange: shared\n  window: {from: 2, rounds: 9}")
    (here / "s.yaml").write_text(shared)
    assert "window: ends after step 11, steps: 6" in refused("run", "s.yaml")
    (here / "s.yaml").write_text(shared.replace("exchange: shared", "exchange: split"))
    assert "window: only in exchange 'shared'" in refused("run", "s.yaml")


def test_all_mistakes_of_a_file_are_told_at_once_in_its_order(here: Path) -> None:
    (here / "s.yaml").write_text(
        "scenario:\n  kind: baseline\n  batch: q\n  quokka: 1\n  wombat: 2\n  dta: {kind: csv}\n"
        "  parties: {a: {colums: u, columns: w, bottm: 3}}\nseed: x\nthreads: y\nrun_time: {kind: local}\n"
        "trials:\n- {atack: {kind: cafe}, seat: server, knws: []}\n"
        "compare:\n  one: {scenario: {stepz: 3}}\n  two: {sed: 3}\n  three: {}\n"
    )
    said = fedsim("run", "s.yaml")
    lines = [line.removeprefix("fedsim: ") for line in said.err.splitlines()]
    assert said.code == 2
    beginnings = [
        "s.yaml:3: scenario.batch: expected a whole number, found 'q'",
        "s.yaml:4: scenario.quokka: unknown key 'quokka'; allowed: augment,",
        "s.yaml:5: scenario.wombat: unknown key 'wombat'",
        "s.yaml:6: scenario.dta: unknown key 'dta'; did you mean 'data'?",
        "s.yaml:7: scenario.parties.a.colums: unknown key 'colums'; did you mean 'columns'? allowed: bottom,",
        "s.yaml:7: scenario.parties.a.bottm: unknown key 'bottm'; did you mean 'bottom'?",
        "s.yaml:8: seed: expected a whole number, found 'x'",
        "s.yaml:9: threads: expected a whole number, found 'y'",
        "s.yaml:10: run_time: unknown key 'run_time'; did you mean 'runtime'? allowed: checkpoint,",
        "s.yaml:12: trials.0.atack: unknown key 'atack'; did you mean 'attack'? allowed: attack,",
        "s.yaml:12: trials.0.knws: unknown key 'knws'; did you mean 'knows'?",
        "s.yaml:14: compare.one: scenario.stepz: unknown key 'stepz'; did you mean 'steps'?",
        "s.yaml:15: compare.two: sed: unknown key 'sed'; did you mean 'seed'?",
    ]
    assert len(lines) == len(beginnings)
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning)
    assert sum("allowed: augment" in line for line in lines) == 2  # once in the file, once in the arm


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("scenario.batch_size=4", "'batch'"),
        ("scenario.Batch-Size=4", "'batch'"),
        ("scenario.batchsize=4", "'batch'"),
        ("scenario.learning_rate=4", "'lr' under 'optimiser'"),
        ("scenario.optimiser.learning_rate=4", "'lr'"),
        ("scenario.momentum=0.5", "'momentum' under 'optimiser'"),
        ("scenario.optimizer={}", "'optimiser'"),
        ("scenario.clients={}", "'parties'"),
        ("scenario.num_clients=2", "'parties'"),
        ("scenario.seed=2", "'seed' at the top of the file"),
        ("scenario.random_state=2", "'seed' at the top of the file"),
        ("random_seed=2", "'seed'"),
        ("batch=2", "'batch' under 'scenario'"),
        ("learning_rate=2", "'lr' under 'scenario.optimiser'"),
        ("scenario.separator=;", "'separator' under 'scenario.data'"),
        ("scenario.sep=;", "'separator' under 'scenario.data'"),
        ("scenario.data.delimiter=;", "'separator'"),
        ("scenario.bottom.hidden_sizes=[3]", "'hidden'"),
        ("scenario.epochs=3", "'steps'? (an epoch is 6 steps here)"),
        ("scenario.n_epochs=3", "'steps'? (an epoch is 6 steps here)"),
        ("epochs=3", "'steps' under 'scenario'? (an epoch is 6 steps here)"),
    ],
)
def test_a_word_of_another_library_leads_to_the_setting_here(here: Path, words: str, hint: str) -> None:
    key = words.partition("=")[0]
    said = refused("check", "s.yaml", "--set", words)
    assert f": {key}: unknown key '{key.rpartition('.')[2]}'; did you mean {hint}" in said
    assert said.count("did you mean") == 1


def test_epochs_are_explained_without_a_number_where_the_data_is_not_at_hand(here: Path) -> None:
    (here / "table.csv").unlink()
    said = refused("check", "s.yaml", "--set", "scenario.epochs=3")
    assert "did you mean 'steps'? (an epoch is as many steps as there are training rows / batch); allowed:" in said


def test_arms_of_a_right_file_are_told_their_mistakes_at_once(here: Path) -> None:
    (here / "s.yaml").write_text(TABLE + "compare: {x: {scenario: {stepz: 3}}, y: {}, z: {sed: 3, seed: q}}\n")
    lines = fedsim("check", "s.yaml").err.splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("compare.x: scenario.stepz", "compare.z: seed", "compare.z: sed"), strict=True):
        assert name in line


def test_of_very_many_mistakes_the_first_are_told_and_the_others_counted(here: Path) -> None:
    (here / "s.yaml").write_text(TABLE + "".join(f"wrong{i}: {i}\n" for i in range(500)))
    lines = fedsim("run", "s.yaml").err.splitlines()
    assert (len(lines), lines[-1]) == (31, "and 470 more")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("nix.yaml", "nix.yaml: no such file; expected a scenario file"),
        ("basline", "no file and no scenario 'basline'; did you mean 'baseline'?"),
        (".", ".: a folder; expected a scenario file"),
        ("", ".: a folder; expected a scenario file"),
        ("/dev/null", "/dev/null: not a plain file"),
        ("table.csv", "table.csv: expected a mapping"),
        ("x" * 5000, "no such file"),
        ("bytes.bin", "bytes.bin: a binary file; expected a scenario file"),
        ("huge.yaml", "huge.yaml: 2000002 bytes; a scenario file has at most 1048576"),
    ],
)
def test_what_is_no_scenario_file(here: Path, source: str, line: str) -> None:
    (here / "bytes.bin").write_bytes(bytes(range(256)))
    (here / "huge.yaml").write_text("# " + "x" * 2_000_000)
    assert line in refused("run", source)
    assert line in refused("check", source)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--runtime", "lokal"], "--runtime: unknown kind 'lokal' in runtimes; did you mean 'local'?"),
        (["--runtime", "local, x: 3"], "--runtime: unknown kind 'local, x: 3'"),
        (["--set", "scenario.batch"], "--set scenario.batch: expected path=value, such as scenario.batch=20"),
        (["--set", "=3"], "--set =3: expected path=value"),
        (["--set", "scenario..batch=3"], "--set scenario..batch=3: expected path=value"),
        (
            ["--set", "scenario.btch=3"],
            "--set scenario.btch=3: scenario.btch: unknown key 'btch'; did you mean 'batch'?",
        ),
        (["--set", "scenario.batch=x"], "--set scenario.batch=x: scenario.batch: expected a whole number, found 'x'"),
        (["--set", "scenario.batch="], "--set scenario.batch=: scenario.batch: expected a whole number, found nothing"),
        (
            ["--set", "scenario.batch.x=3"],
            "--set scenario.batch.x=3: 'x' leads nowhere; there is 8, which has no parts",
        ),
        (["--set", "trials.0.seat=a"], "there is no list 'trials'; set it whole: trials=[...]"),
        (["--set", "scenario.bottom.hidden.3=1"], "'3' leads nowhere; there is a list of 1"),
        (
            ["--set", "scenario.bottom.kind=linear"],
            "s.yaml:5: scenario.bottom.hidden: unknown key 'hidden'; allowed: activation, bias; "
            "to drop the settings of the kind before: --set 'scenario.bottom={kind: linear}'",
        ),
        (["--set", "scenario.batch=[1"], "--set scenario.batch=[1:1: expected ',' or ']'"),
        (["--set", "scenario.batch=!!python/name:os.x"], "is refused: a scenario file names no code"),
        (["--set", "scenario.batch=3\nseed: 4"], "more than one value"),
        (["--seeds", "two"], "Invalid value for '--seeds'"),
        (["--sedes", "2"], "No such option"),
        (["more"], "unexpected extra argument"),
        (["--out", "table.csv"], "table.csv: a file; expected a folder to write the run to"),
        (["--out", "table.csv/x"], "table.csv/x: cannot be written: Not a directory"),
        (["--out", "."], ".: holds files but no run of ours; choose an empty folder with --out"),
        (["--out", "x" * 300], "cannot be written: File name too long"),
    ],
)
def test_wrong_options(here: Path, words: list[str], line: str) -> None:
    assert line in refused("run", "s.yaml", *words)
    assert not (here / "runs").exists()


def test_a_number_out_of_range_is_said_with_the_range_and_where_help_is(here: Path) -> None:
    """How the range is worded differs between releases of typer."""
    said = refused("run", "s.yaml", "--seeds", "0")
    assert re.fullmatch(r"Invalid value for '--seeds': .*\b1\b.* \(see fedsim run --help\)", said)


def test_a_command_with_a_slip_is_told_what_was_meant_once() -> None:
    said = refused("rnu")
    assert "No such command 'rnu'" in said
    assert said.count("Did you mean 'run'?") == 1


def test_no_command_at_all_is_answered_with_help() -> None:
    assert fine() == fine("--help")
    assert "doctor" in fine()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nix"], "No such command 'nix'"),
        (["run"], "Missing argument 'FILE|NAME'. (see fedsim run --help)"),
        (["show", "caffe"], "no kind 'caffe'; did you mean 'cafe'?"),
        (["list", "attack"], "no group 'attack'; did you mean 'attacks'?"),
        (["check", "nix.py"], "nix.py: expected a Python file that defines a plugin"),
        (["diff", ".", "."], ".: a folder without manifest.json; expected the folder of a run"),
        (["diff", "nix", "nix"], "nix: no such folder; expected the folder of a run"),
        (["report", "table.csv"], "table.csv: a file; expected the folder of a run"),
        (["report"], "Missing argument 'RUN...'"),
        (["predict", ".", "table.csv"], ".: a folder without manifest.json; expected the folder of a run"),
    ],
)
def test_wrong_commands(words: list[str], line: str) -> None:
    assert line in refused(*words)


def test_a_folder_with_another_run_is_left_alone(here: Path) -> None:
    fine("run", "s.yaml", "--out", "one")
    before = (here / "one/summary.json").read_bytes()
    line = refused("run", "s.yaml", "--out", "one", "--set", "seed=9")
    assert line.startswith("one: holds another run, of experiment")
    assert (here / "one/summary.json").read_bytes() == before
    (here / "one/manifest.json").write_text("{}")
    assert "holds files but no run of ours" in refused("run", "s.yaml", "--out", "one")


def test_a_run_that_failed_says_why_and_does_not_block_the_next(here: Path) -> None:
    said = fedsim("run", "s.yaml", "--out", "one", "--set", "scenario.optimiser={kind: sgd, lr: 1.0e+30}")
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("fedsim: training diverged: a's own Embedding at training step 1 has ")
    there = json.loads((here / "one/manifest.json").read_text())
    assert there["status"] == "failed"
    assert there["cause"].startswith("DivergedError: training diverged")
    assert "has no results; the run is failed (DivergedError" in refused("diff", "one", "one")
    (here / "one/metrics.jsonl").unlink()  # as if it had ended before its first row
    fine("run", "s.yaml", "--out", "one")


def test_names_may_be_in_any_script(here: Path) -> None:
    text = TABLE.replace("{a: {", "{köln: {").replace("b: {", "東京: {")
    text += "name: 試し/../ü\ncompare: {'a: b': {}, ünd: {}}\n"
    (here / "s.yaml").write_text(text, encoding="utf-8")
    assert "köln" in fine("check", "s.yaml")
    fine("run", "s.yaml")
    (folder,) = (here / "runs").iterdir()
    assert json.loads((folder / "summary.json").read_text("utf-8"))["weights_sha256"].keys() == {
        "server",
        "köln",
        "東京",
    }
    assert "equal results" in fine("diff", folder, folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_places_that_cannot_be_written(here: Path) -> None:
    (here / "shut").mkdir(mode=0o500)
    assert "shut/x: cannot be written: Permission denied" in refused("run", "s.yaml", "--out", "shut/x")


def test_a_process_of_its_own_says_the_same(here: Path) -> None:
    program = Path(sys.executable).with_name("fedsim")
    done = subprocess.run([program, "run", "s.yaml", "--set", "scenario.batch=99"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fedsim: scenario.batch: 99 rows a batch, but there are only 42 training rows\n"
