"""The page: made from the folder alone, self-contained, escaped, with everything in it."""

import base64
import html
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from small import small
from torch import Tensor

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.errors import OutputError
from fedsim.net import Traffic
from fedsim.outcome import Finding, SeatReport
from fedsim.report import page, pictures, reading
from fedsim.report.drawing import LETTER, MARGIN, drawings
from fedsim.report.folder import RunFolder
from fedsim.report.headline import over_seeds, sentences
from fedsim.report.pictures import offset
from fedsim.report.summary import Arm
from fedsim.report.view import views
from fedsim.report.words import number
from fedsim.threat import Claim, Verdict

NASTY = "_<script>alert('x')</script> $\\frac$ & \"co\""
CORNERS = {"nw": "0:14, 0:14", "ne": "0:14, 14:28", "sw": "14:28, :14", "se": "14:, 14:28"}
LINKS = [{"to": "server", "message": "ParameterGradient", "sender": [{"kind": "gaussian_noise", "sigma": 1}]}]


def table_file(arms: dict[str, object], *overrides: str) -> ScenarioFile:
    trials = "trials=[{attack: {kind: norm_scoring}, seat: imaging, knows: [rows]}]"
    short = ["scenario.steps=12", trials, *overrides]
    return config.validate({**config.read("baseline", short).resolved(), "compare": arms}, "test", {})


def play(path: Path, file: ScenarioFile) -> RunFolder:
    with RunFolder.open_for(path, file, ["fedsim", "run", "my file.yaml"]) as run:
        run.write([Arm(n, a, a.runtime.run(a, run.watch(n)), 1.0) for n, a in file.arms().items()])
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(tmp_path_factory.mktemp("runs") / "table", table_file({"plain": {}, NASTY: {"seed": 9}})).path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four quarters of images, rebuilt well in one arm and not at all in the other; reports made by hand."""
    settings = {"kind": "baseline", "exchange": "shared", "data": {"kind": "mnist5k"}, "bottom": {"kind": "cnn"}}
    parties = {name: {"columns": columns} for name, columns in CORNERS.items()}
    trial = {"attack": {"kind": "cafe"}, "seat": "server", "knows": ["rows", "bottom"]}
    data = {"name": "corners", "scenario": {**settings, "parties": parties}, "trials": [trial]}
    file = config.validate({**data, "compare": {"open": {}, "noisy": {"links": LINKS}}}, "test", {})
    path = tmp_path_factory.mktemp("runs") / "images"
    with RunFolder.open_for(path, file) as run:
        arms = file.arms()
        noises = {"open": 0.0, "noisy": 1.0}
        run.write([Arm(name, arms[name], reports(arms[name], noise), 2.0) for name, noise in noises.items()])
    return path


SENT = ("Rows", "Embedding", "ParameterGradient")


def whole() -> Tensor:
    """Eight images (8, 1, 28, 28)."""
    return torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def reports(file: ScenarioFile, noise: float) -> list[SeatReport]:
    plan, found, score = file.plan(), [], 9.0 if noise else 55.0
    for index, aim in enumerate(plan.aims):
        claim = Claim(about="features", rows=torch.arange(8), values=torch.zeros(8, 1, 14, 14), notes={"rank": 8})
        scores = {"psnr": score, "share_above_30": 0.0 if noise else 0.95}
        verdict = Verdict(index, scores, {"psnr": 12.0, "share_above_30": 0.0}, purpose="query")
        found.append(Finding(aim, claim, verdict, {"ParameterGradient": 40, "Model": 41}, ("bottom",), 0.5))
    rows: list[dict[str, Any]] = [{"step": 0, "loss": 2.3}, {"step": 1, "test": {"accuracy": 0.87 if noise else 0.88}}]
    seats = [SeatReport("server", rows, {}, {}, {"classes": ["0", "1"], "parameters": 34}, Traffic(), found)]
    for index, (name, (top, left)) in enumerate(zip(CORNERS, [(0, 0), (0, 14), (14, 0), (14, 14)], strict=True)):
        truth = whole()[:, :, top : top + 14, left : left + 14]
        shown = {f"{index}/truth": truth, f"{index}/claim": (truth + noise * 0.5) % 1}
        describe = {"input": [1, 14, 14], "columns": [], "model": {"kind": "cnn"}, "parameters": 10, "embedding": 4}
        sent = Counter({("server", kind): 2 for kind in SENT})
        seats.append(SeatReport(name, [], {}, {}, describe, Traffic(sent, sent), [], shown))
    return seats


def pixels(uri: str) -> Tensor:
    return torch.from_numpy(imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])))[:, :, 0].copy())


def test_the_page_is_one_file_and_made_from_the_folder_alone(folder: Path, tmp_path: Path) -> None:
    first = page.write([folder]).read_text(encoding="utf-8")
    (folder / "report.html").unlink()
    assert page.write([folder]) == folder / "report.html"
    assert (folder / "report.html").read_text(encoding="utf-8") == first
    assert not re.search(r"https?://|@import|url\(|<script|<link", first)
    assert all(source.startswith("data:image/") for source in re.findall(r'(?:src|href)="([^"]*)"', first))


def test_names_from_files_are_escaped(folder: Path) -> None:
    text = page.write([folder]).read_text(encoding="utf-8")
    assert "<script>" not in text
    assert html.escape(NASTY, quote=False).replace('"', "&#34;").replace("'", "&#39;") in text


@pytest.mark.parametrize("section", ["results", "curves", "architecture", "audit", "traffic", "reproduce"])
def test_every_part_is_there(folder: Path, section: str) -> None:
    assert f'<section id="{section}">' in page.write([folder]).read_text(encoding="utf-8")


def test_a_single_value_makes_no_curve(tmp_path: Path) -> None:
    text = page.write([play(tmp_path, config.read("baseline", ["scenario.steps=1"])).path]).read_text(encoding="utf-8")
    assert 'id="curves"' not in text
    assert 'id="results"' in text


def test_every_trial_and_how_to_reproduce_it_are_there(folder: Path) -> None:
    text, run = page.write([folder]).read_text(encoding="utf-8"), reading.read(folder)
    for arm in run.summary["arms"].values():
        for trial in arm["trials"]:
            assert f"<b>{number(trial['score'])}</b>" in text
    assert run.manifest["digest"] in text
    assert html.escape("fedsim run 'my file.yaml'").replace("&#x27;", "&#39;") in text
    assert html.escape("name: baseline") in text


def test_the_headline_says_what_the_numbers_say(images: Path) -> None:
    attack, task = sentences(views([reading.read(images)]))
    assert attack == (
        "Cafe rebuilt 95 % of the image parts above 30 dB (mean 55.0 dB; the mean image scores 12.0 dB); "
        "with “noisy” it did no better than the mean image (9.0 dB against 12.0 dB)."
    )
    assert task == "Test accuracy went from .880 to .870."


def test_a_run_without_trials_says_so(tmp_path: Path) -> None:
    text = page.write([play(tmp_path, config.read("baseline", ["scenario.steps=4"])).path]).read_text(encoding="utf-8")
    assert "after 4 steps; nobody attacked." in text
    assert "Nobody attacked." in text


def test_what_a_scenario_attacked_by_itself_is_no_peace(tmp_path: Path) -> None:
    text = page.write([play(tmp_path / "models", small("minmax")).path]).read_text(encoding="utf-8")
    assert "The attacker fooled every domain at once: " in text
    assert "obody attacked" not in text
    text = page.write([play(tmp_path / "slice", small("minmax_slice")).path]).read_text(encoding="utf-8")
    assert re.search(r"Test accuracy: [\d.]+\. Left of it under attack: [\d.]+\.", text)
    assert "obody attacked" not in text
    text = page.write([play(tmp_path / "views", small("contrastive")).path]).read_text(encoding="utf-8")
    assert re.search(r"Test accuracy: [\d.]+\. Left of it under attack \(PGD\): [\d.]+\.", text)


def test_whole_images_are_put_together_from_the_parts(images: Path) -> None:
    (gallery,) = pictures.galleries(views([reading.read(images)]))
    assert [strip.label for strip in gallery.strips] == ["truth", "open", "noisy"]
    for k, (uri, _) in enumerate(gallery.strips[0].cells):
        assert torch.allclose(pixels(uri), whole()[k, 0], atol=1 / 255)
    assert torch.allclose(pixels(gallery.strips[2].cells[0][0]), (whole()[0, 0] + 0.5) % 1, atol=1 / 255)
    assert [note for _, note in gallery.strips[1].cells] == ["60 dB"] * 8


def test_parts_that_do_not_say_where_they_belong_are_shown_each(images: Path) -> None:
    run = reading.read(images)
    run.records["open"]["seats"]["nw"]["columns"] = ["who knows"]
    assert [g.title for g in pictures.galleries(views([run]))] == [f"cafe: {name}" for name in CORNERS]


@pytest.mark.parametrize(
    ("columns", "place"),
    [("0:14, 14:28", (0, 0, 14)), ("14:, :", (0, 14, 0)), ("0:1,2:3,1:2", (1, 0, 2)), ("mean *", None), (["a"], None)],
)
def test_a_block_says_where_it_begins(columns: object, place: tuple[int, int, int] | None) -> None:
    assert offset(columns) == place


def test_the_drawing_has_each_seat_stage_and_tap_where_it_lies(images: Path) -> None:
    (drawing,) = drawings(views([reading.read(images)]))
    assert [(box.name, box.hub) for box in drawing.boxes] == [*((name, False) for name in CORNERS), ("server", True)]
    stages, taps = ([m for m in drawing.marks if m.tap == tap] for tap in (False, True))
    assert {m.text for m in stages} == {"gaussian_noise"}
    assert (len(stages), len(taps)) == (4, 4)
    assert all(m.partly and m.x < 500 for m in stages)  # at the sending party, in one of two arms
    assert all(not m.partly and m.x > 600 for m in taps)  # at the server, in both
    assert [arrow.kinds for arrow in drawing.arrows] == [", ".join(SENT)] * 4  # a model may be sent, and none was
    assert any("only in “noisy”" in line for line in drawing.legend)


def test_what_is_around_the_hub_is_told_within_its_box(tmp_path: Path) -> None:
    around = "seats.server=[{kind: mislabelled, base: target}]"
    run = play(tmp_path, config.read("uda_poisoning", ["compare={}", "scenario.steps=3", around])).path
    (drawing,) = drawings(views([reading.read(run)]))
    hub = drawing.boxes[-1]
    assert max(map(len, hub.lines)) * LETTER <= hub.width - 2 * MARGIN
    assert "wrapped in mislabelled (rate 0.1, base target" in " ".join(hub.lines)
    assert "Scores are over rows of the target domain" in page.write([run]).read_text(encoding="utf-8")


def test_the_audit_says_granted_saw_used_and_never_used(images: Path) -> None:
    text = " ".join(page.write([images]).read_text(encoding="utf-8").split())
    row = text[text.index("<th>cafe at server</th>") :]
    row = re.sub(r"(<[^>]*>\s*)+", "|", row[: row.index("</tr>")])
    assert row == "|cafe at server|nw, ne, sw and se|rows, bottom|40 × ParameterGradient|41 × Model|bottom|rows|"


def test_tables_are_shown_as_shaded_numbers(tmp_path: Path) -> None:
    overrides = [
        "scenario.exchange=shared",
        "scenario.data.rows=20",
        "scenario.batch=5",
        "scenario.steps=30",
        "trials=[{attack: {kind: cafe}, seat: server, victim: pathology, knows: [rows, bottom]}]",
    ]
    run = reading.read(play(tmp_path, config.read("baseline", overrides)).path)
    (gallery,) = pictures.galleries(views([run]))
    assert gallery.columns[0] == "worst radius"
    truth = run.tensors("claims/baseline/0-cafe-pathology-shown.safetensors")["truth"]
    label, cells = gallery.heats[0].lines[0]
    assert label == "truth"
    assert [float(text) for text, _ in cells] == pytest.approx(truth[0].tolist(), abs=0.051)
    assert 'class="heat"' in page.write([tmp_path]).read_text(encoding="utf-8")


def test_several_runs_make_a_comparison(folder: Path, images: Path, tmp_path: Path) -> None:
    out = page.write([folder, images], tmp_path / "both.html")
    text = out.read_text(encoding="utf-8")
    assert "baseline: plain" in text
    assert "corners: noisy" in text
    assert "scenario.exchange: split -&gt; shared" in text
    assert not re.search(r"https?://", text)


def test_over_seeds_what_is_left_under_attack_is_told_too() -> None:
    found = {"accuracy": 0.9, "log_loss": 0.3, "union_accuracy": 0.2}
    task = {
        metric: {"mean": value, "low": value, "high": value, "n": 2, "method": "student_t"}
        for metric, value in found.items()
    }
    told = over_seeds({"seeds": [1, 2], "arms": {"plain": {"task": task, "trials": []}}})
    accuracy, left = "Test accuracy: .900 (.900 to .900)", "Left of it under attack: .200 (.200 to .200)"
    assert told[1:] == [f"{accuracy} with “plain”.", f"{left} with “plain”."]


def test_a_page_over_one_seed_shows_no_interval(tmp_path: Path) -> None:
    file = table_file({"plain": {}, "slow": {"scenario": {"optimiser": {"lr": 1e-5}}}}, "scenario.steps=6")
    with RunFolder.open_for(tmp_path, file, seeds=[3]) as run:
        each = [play(tmp_path / "seed-3", file.model_copy(update={"seed": 3}))]
        summary = run.write_seeds([one.path for one in each])
    accuracy = summary["arms"]["plain"]["task"]["accuracy"]
    assert (accuracy["low"], accuracy["high"], accuracy["n"]) == (None, None, 1)
    text = page.write([tmp_path]).read_text(encoding="utf-8")
    assert "n = 1: no intervals, which take two seeds or more." in text
    assert not re.search(r"<small>[^<]* to ", text)
    assert "nan" not in text


def test_a_page_over_seeds(tmp_path: Path) -> None:
    slower, seeds = {"scenario": {"optimiser": {"lr": 1e-5}}}, [3, 4]
    file = table_file({"plain": {}, "slow": slower}, "scenario.steps=6")
    with RunFolder.open_for(tmp_path, file, seeds=seeds) as run:
        each = [play(tmp_path / f"seed-{s}", file.model_copy(update={"seed": s})) for s in seeds]
        summary = run.write_seeds([one.path for one in each])
    assert (summary["seeds"], summary["runs"]) == (seeds, ["seed-3", "seed-4"])
    accuracies = [reading.read(one.path).summary["task"]["accuracy"] for one in each]
    assert summary["arms"]["plain"]["task"]["accuracy"]["values"] == accuracies
    slow, plain = (summary["arms"][arm]["task"]["accuracy"]["mean"] for arm in ("slow", "plain"))
    assert summary["arms"]["slow"]["price"]["accuracy"]["mean"] == pytest.approx(slow - plain)
    scores = [reading.read(one.path).summary["trials"][0]["score"] for one in each]
    assert summary["arms"]["plain"]["trials"][0]["score"]["values"] == scores
    text = page.write([tmp_path]).read_text(encoding="utf-8")
    assert "Over 2 seeds:" in text
    assert (
        "95 % confidence intervals (Student&#39;s t; Student&#39;s t of the differences, paired by seed), n = 2" in text
    )
    assert 'href="seed-4/report.html"' in text
    with pytest.raises(OutputError, match="by itself"):
        page.write([tmp_path, each[0].path])
    with pytest.raises(OutputError, match="choose one of its runs: seed-3, seed-4"):
        reading.load_seats(tmp_path)
