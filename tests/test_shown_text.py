"""Text of strangers is shown as text on terminals, in run folders, on pages and in Markdown: none of it acts."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text
from terminal import TABLE, Said, fedsim, fine

from fedsim.cli.terminal import Terminal
from fedsim.printable import HARMFUL, is_printable, make_printable, print_text
from fedsim.report.markdown import escape_markdown
from fedsim.report.writing import json_bytes, json_line
from fedsim.runtime._causes import find_cause
from fedsim.runtime._crew import raised
from fedsim.transport._packets import text

CLEAR, TITLE, EIGHT_BIT, OVERRIDE = "\x1b[2J\x1b[1;1H", "\x1b]0;owned\x07", "\x9b31m", "\u202etxt.exe\u2066"
HOSTILE = f"<img src=x onerror=alert(1)>[x](http://evil.example)`$\\frac|*{CLEAR}{TITLE}{EIGHT_BIT}{OVERRIDE}"


def harmful(content: str) -> set[str]:
    """What of a text a terminal would obey."""
    return set(HARMFUL.findall(content)) - {"\n", "\t"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A run over a table with a hostile column and hostile labels, and what it printed."""
    here = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        with open("table.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["u", f"v{HOSTILE}", "w", "y"])
            table.writerows(
                [i % 7, ["plain", HOSTILE][i % 3 == 0], i % 5, [f"={HOSTILE}", "-1 no"][i % 2]] for i in range(60)
            )
        scenario = TABLE.replace('"u, v"', '"u, v*"')
        scenario += "trials:\n  - {attack: {kind: norm_scoring}, seat: a, victim: server, knows: [rows]}\n"
        Path("s.yaml").write_text(scenario)
        said = fedsim("run", "s.yaml", "--out", "run")
        assert said.code == 0, said.err
        return here, said


def test_a_table_with_escape_sequences_leaves_none_on_the_terminal_and_none_in_any_text_of_the_run(
    run: tuple[Path, Said],
) -> None:
    here, said = run
    assert harmful(said.out + said.err) == set()
    texts = [path for path in (here / "run").rglob("*") if path.suffix in (".json", ".jsonl", ".yaml", ".html", ".md")]
    assert {path.suffix for path in texts} >= {".json", ".jsonl", ".yaml", ".html"}
    assert [path for path in texts if harmful(path.read_text("utf-8"))] == []
    page = (here / "run/report.html").read_text("utf-8")
    assert "<img src=x" not in page


def test_the_values_in_a_run_folder_are_the_true_ones(run: tuple[Path, Said]) -> None:
    seats = json.loads((run[0] / "run/seats.json").read_text("utf-8"))
    classes = seats["arms"]["s"]["seats"]["server"]["describe"]["classes"]
    assert f"={HOSTILE}" in classes


def test_a_model_card_shows_hostile_names_as_text(run: tuple[Path, Said], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("captum", reason="needs fedsim-vfl[card]")
    monkeypatch.chdir(run[0])
    fine("card", "run", "--no-training")
    for name in ("card.md", "card.html", "card.json"):
        assert harmful(Path("run", name).read_text("utf-8")) == set()
    card = Path("run/card.md").read_text("utf-8")
    assert "<img" not in card
    assert not re.search(r"(?<!\\)\]\(http", card)
    assert "&lt;img src=x onerror=alert(1)>" in card
    assert "<img src=x" not in Path("run/card.html").read_text("utf-8")
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in card.splitlines() if line.startswith("| measure")}
    assert widths == {4}


def test_errors_that_quote_a_file_are_printable(run: tuple[Path, Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run[0])
    for words in (["--set", f"scenario.{HOSTILE}=1"], ["--set", f"scenario.data.path={TITLE}x"], [f"--{CLEAR}"]):
        said = fedsim("check", "s.yaml", *words)
        assert said.code == 2
        assert harmful(said.out + said.err) == set()
        assert "\\x1b" in said.err or "#x001b" in said.err


@pytest.mark.parametrize("shown", [HOSTILE, Text(HOSTILE), f"[bold]{CLEAR}[/bold]"])
def test_a_terminal_prints_no_escape_sequence_but_its_own(shown: object, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {}
    for kind in (Terminal, Console):
        terminal, out = kind(), io.StringIO()
        terminal.file = out
        table = Table("head")
        table.add_row(shown if isinstance(shown, Text) else Text.from_markup("x") + Text(str(shown)))
        terminal.print(shown, markup=False)
        terminal.print(table)
        written[kind] = out.getvalue()
    assert harmful(written[Terminal]) == set()
    assert "\\x1b[2J" in written[Terminal].replace("\n", "")
    assert harmful(written[Console])  # what rich alone lets through


def test_a_terminal_turns_no_name_into_a_picture() -> None:
    terminal = Terminal()
    terminal.file = out = io.StringIO()
    terminal.print("class :key: and :warning:", markup=False)
    assert out.getvalue() == "class :key: and :warning:\n"


def test_lines_of_a_command_keep_their_form(capsys: pytest.CaptureFixture[str]) -> None:
    print_text(f"one\n\ttwo{CLEAR}")
    print_text(f"three{OVERRIDE}", err=True)
    said = capsys.readouterr()
    assert said.out == "one\n\ttwo\\x1b[2J\\x1b[1;1H\n"
    assert said.err == "three\\u202etxt.exe\\u2066\n"


def test_no_command_goes_to_the_terminal_past_the_one_way() -> None:
    sources = sorted(Path("fedsim/cli").rglob("*.py"))
    assert len(sources) > 10
    passed = re.compile(r"(?<![\w.])(?:Console\(|typer\.echo\(|print\()|sys\.std(?:out|err)\.write")
    found = {path.name: passed.findall(path.read_text("utf-8")) for path in sources if path.name != "terminal.py"}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_json_has_the_same_values_and_no_character_that_acts() -> None:
    value = {HOSTILE: [HOSTILE, "ü\u200d", "\ud800".encode("utf-8", "replace").decode()]}
    for content in (json_bytes(value).decode(), json_line(value)):
        assert json.loads(content) == value
        assert harmful(content) == set()
        assert "ü" in content


def test_what_a_peer_says_is_printable_where_it_comes_in() -> None:
    said = text(f"a{CLEAR}{OVERRIDE}\nb".encode())
    assert is_printable(said)
    assert text("प्रिया\u200d \u00a0株".encode()) == "प्रिया\u200d \u00a0株"
    assert is_printable(str(raised("north", "ProtocolError", CLEAR)))
    assert is_printable(str(raised("north", f"X{CLEAR}", CLEAR)))
    assert is_printable(find_cause(f"ValueError: {TITLE}{EIGHT_BIT}{OVERRIDE}"))


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("![x](http://e)", r"!\[x\](http\://e)"),
        ("# head", r"\# head"),
        ("> said", r"\> said"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("a | b", r"a \| b"),
        ("*a* _b_ c_d `e` ~f~", r"\*a\* \_b\_ c_d \`e\` \~f\~"),
        ("<b>&amp;", "&lt;b>&amp;amp;"),
        ("a\nb", "a b"),
        ("www.evil.example", r"www\.evil.example"),
        ("back\\slash", r"back\\slash"),
        ("sex = F, 0.5 (n = 3), a -> b", "sex = F, 0.5 (n = 3), a -> b"),
        (CLEAR, r"\\x1b\[2J\\x1b\[1;1H"),
    ],
)
def test_markdown_of_a_name_formats_nothing(raw: str, escaped: str) -> None:
    assert escape_markdown(raw) == escaped


def test_markdown_reads_back_as_the_text() -> None:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("gfm-like", {"linkify": False})
    for raw in (
        HOSTILE,
        "[a]: http://x",
        "# a",
        "+ a",
        "=====",
        "12) a",
        "a *b* <c> &lt; `d` __e__ ~~f~~ |g|",
        "<!-- x",
        "\\",
    ):
        shown = reader.render(f"word\n\n{escape_markdown(raw)}\n")
        assert re.findall(r"<(?!/?p>)", shown) == [], shown
        assert shown.count("<p>") == 2


def test_printable_text_is_left_alone() -> None:
    for kept in ("größe", "数据", "a\u200db", "सेब", "naïve — “quoted” …", "🏦"):
        assert make_printable(kept) == kept
