"""A model card of a trained federation: Markdown, and one HTML page that opens offline.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019. It holds no value of any row but names, counts and scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedsim.errors import ContentError
from fedsim.figure import Bars, Figure, Grid, Lines, plain
from fedsim.report import words
from fedsim.report.figures import Shown, figures
from fedsim.report.markdown import escape_markdown
from fedsim.report.page import environment
from fedsim.report.paths import PathFilter
from fedsim.report.reading import Run
from fedsim.report.summary import finite
from fedsim.report.view import View

LIBRARIES = ("fairlearn", "captum")
"""What parts of a card are computed with, besides what every run is."""


@dataclass(frozen=True)
class Sheet:
    """A table of text; the first column names the rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One part of the card.

    Attributes:
        text: sentences.
        sheets: tables.
        drawn: figures.
    """

    title: str
    text: Sequence[str] = ()
    sheets: Sequence[Sheet] = ()
    drawn: Sequence[Figure] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """What was found for the card.

    Attributes:
        task: scores on the held-out rows, and differences between groups.
        baseline: what a constant guess scores there, by the same names.
        fairness, worth, resilience: figures.
        versions: of libraries, by name.
    """

    task: Mapping[str, float]
    baseline: Mapping[str, float]
    fairness: Sequence[Figure]
    worth: Sequence[Figure]
    resilience: Sequence[Figure]
    versions: Mapping[str, str | None]


def sections(run: Run, arm: str, found: Found, scenario: Mapping[str, Any]) -> list[Section]:
    """Everything that the card of one arm says; ``scenario`` as its file resolves it."""
    numbers, record = run.summary["arms"][arm], run.records[arm]
    _check_described(run, record)
    parts = [_what(scenario, numbers, record), _data(run, scenario, record), _task(found)]
    unasked = ["Not asked: nobody named a column that tells groups of people apart."]
    return [
        *parts,
        Section("Whom it treats how", [] if found.fairness else unasked, drawn=found.fairness),
        Section("What each party is worth", drawn=found.worth),
        Section("What it bears", drawn=found.resilience),
        _leaks(numbers, record),
        _made(run, numbers, found),
        _limits(),
    ]


def _check_described(run: Run, record: Mapping[str, Any]) -> None:
    """Refuse a run folder that does not say what the card tells of each seat."""
    for role, seat in record["seats"].items():
        for each in _holders(seat["describe"]):
            needed = {"parameters", "rows"} | (set() if "classes" in each else {"columns", "input"})
            if role == record["hub"] and each is seat["describe"]:
                needed.add("classes")
            if missing := [name for name in sorted(needed) if each.get(name) is None]:
                raise ContentError(f"{run.path / 'seats.json'}: of {role} it does not say: {', '.join(missing)}")


def markdown(name: str, parts: Sequence[Section]) -> str:
    """The card as Markdown; figures are tables."""
    lines = [f"# Model card: {escape_markdown(name)}", ""]
    for part in parts:
        lines += [f"## {part.title}", ""]
        lines += [line for text in part.text for line in (escape_markdown(text), "")]
        for sheet in part.sheets:
            lines += [*_table(sheet), ""]
        for figure in part.drawn:
            lines += [f"### {escape_markdown(figure.title)}", "", *_table(_sheet(figure)), ""]
            lines += [escape_markdown(figure.note), ""] if figure.note else []
    return "\n".join(lines)


def html(run: Run, name: str, parts: Sequence[Section]) -> str:
    """The card as a page; figures are drawn."""
    shown = {part.title: _shown(run, part) for part in parts}
    paths = PathFilter([run])
    page = environment().get_template("card.html").render(run=run, name=name, parts=parts, shown=shown, paths=paths)
    return paths.finish(page)


def _shown(run: Run, part: Section) -> list[Shown]:
    record = {"figures": [finite(plain(each)) for each in part.drawn]}
    return figures([View("", run, {}, record, [])])


def _what(scenario: Mapping[str, Any], numbers: Mapping[str, Any], record: Mapping[str, Any]) -> Section:
    seats = record["seats"]
    holder = seats[record["hub"]]["describe"]
    classes = ", ".join(map(str, holder["classes"]))
    travels = (
        "embeddings, gradients and models" if scenario["exchange"] == "shared" else "only embeddings and gradients"
    )
    text = [
        f"A classifier of {len(holder['classes'])} classes ({classes}), trained by a vertical federation "
        f"of {words.listed(list(scenario['parties']))}; the hub, {record['hub']}, holds the labels. Each party has a model of "
        f"its own columns; {travels} travel (exchange {scenario['exchange']}).",
        "It was made in a test bed for research. Nobody has approved it for decisions about people.",
    ]
    models = [
        [role, str(each["model"]["kind"]) if "model" in each else "top model", words.number(each["parameters"])]
        for role, seat in seats.items()
        for each in _holders(seat["describe"])
    ]
    unused = ("momentum",) if scenario["optimiser"]["kind"] == "adam" else ("beta1",)
    optimiser = words.settings({name: value for name, value in scenario["optimiser"].items() if name not in unused})
    text.append(
        f"{words.number(numbers['steps'])} training steps of {scenario['batch']} rows, {optimiser}, seed {numbers['seed']}."
    )
    return Section("What it is", text, [Sheet(["seat", "model", "parameters"], models)])


def _data(run: Run, scenario: Mapping[str, Any], record: Mapping[str, Any]) -> Section:
    data = scenario["data"]
    rows = [
        [role, _columns(each), *(words.number(each["rows"].get(k)) for k in ("train", "test"))]
        for role, seat in record["seats"].items()
        for each in _holders(seat["describe"])
    ]
    content = run.manifest["data_sha256"]
    sha = f" SHA-256 of the content: {content}." if content else ""
    return Section(
        "Data",
        [f"Data of kind {data['kind']}; every seat holds its own columns of the same rows.{sha}"],
        [Sheet(["seat", "holds", "training rows", "held-out rows"], rows)],
    )


def _columns(seat: Mapping[str, Any]) -> str:
    if "classes" in seat:
        return f"labels of {len(seat['classes'])} classes"
    inputs = [str(name) for name in seat["columns"]]
    columns = list(dict.fromkeys(name.partition("=")[0].removesuffix(" is missing") for name in inputs))
    if not columns:
        return f"images of {' x '.join(map(str, seat['input']))}"
    return f"{len(columns)} columns, {len(inputs)} inputs: {', '.join(columns)}"


def _holders(seat: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What sits at a seat: a hub with a party of its own is two."""
    return [seat, *([seat["own"]] if seat.get("own") else [])]


def _task(found: Found) -> Section:
    rows = [
        [words.title(metric), words.number(value, metric), words.number(found.baseline.get(metric), metric)]
        for metric, value in found.task.items()
    ]
    text = "On held-out rows. The constant guess looks at none of them: it says the commonest class of the training rows, with "
    text += "the shares of the classes as probabilities."
    return Section("How good it is", [text], [Sheet(["measure", "value", "constant guess"], rows)])


def _leaks(numbers: Mapping[str, Any], record: Mapping[str, Any]) -> Section:
    stages = [f"{words.settings(_stage(d))} on {d['from']} -> {d['to']}" for d in record["defences"]]
    text = [f"Defences: {'; '.join(stages) or 'none'}."]
    if not numbers["trials"]:
        return Section("What leaks", [*text, "No attack on what travels was tried: what that gives away is not known."])
    rows = [
        [
            f"{t['label']} at {t['seat']} against {t['victim']}",
            ", ".join(t.get("knows", ())) or "nothing",
            words.title(t["metric"]),
            words.number(t["score"], t["metric"]),
            words.number(t["chance"], t["metric"]),
        ]
        for t in numbers["trials"]
    ]
    return Section("What leaks", text, [Sheet(["attack", "was granted", "measure", "score", "blind guess"], rows)])


def _stage(defence: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in defence.items() if name not in ("from", "to", "message", "end")}


def _made(run: Run, numbers: Mapping[str, Any], found: Found) -> Section:
    there, libraries = run.manifest, {**run.manifest["versions"], **found.versions}
    rows = [
        ["scenario", f"{there['name']} ({numbers['scenario']})"],
        ["digest", f"{numbers['digest']}"],
        ["trained", f"{there['started']} to {there['ended']} (UTC), runtime {numbers['runtime']}"],
        ["weights, SHA-256", ", ".join(f"{seat} {sha[:16]}" for seat, sha in numbers["weights_sha256"].items())],
        ["versions", ", ".join(f"{name} {version}" for name, version in libraries.items() if version)],
        ["machine", f"{there['platform']}; {there['cpu']['model']}"],
        ["revision", _revision(there["git"])],
    ]
    return Section("Made with", sheets=[Sheet(["", ""], rows)])


def _revision(git: Mapping[str, Any] | None) -> str:
    return f"{git['revision']}{', with changes' if git['dirty'] else ''}" if git else "–"


def _limits() -> Section:
    return Section(
        "What this card does not say",
        [
            "Scores are of one model on one set of held-out rows. Intervals and standard errors are over those rows: another "
            "seed, or another split, moves everything by more.",
            "Fairness compares groups by the labels that the data have; whether those are fair it cannot tell. What a party is "
            "worth is its worth to this model beside these others. Resilience is against chance, one seat at a time, not "
            "against somebody who looks for the worst.",
        ],
    )


def _sheet(figure: Figure) -> Sheet:
    """A figure as a table."""
    if isinstance(figure, Grid):
        rows = [[name, *map(_value, values)] for name, values in zip(figure.rows, figure.values, strict=True)]
        return Sheet(["", *figure.columns], rows)
    if isinstance(figure, Bars):
        errors = [[_value(error)] for error in figure.errors] or [[] for _ in figure.names]
        rows = [[n, _value(v), *e] for n, v, e in zip(figure.names, figure.values, errors, strict=True)]
        return Sheet(["", figure.along, *(["standard error"] if figure.errors else [])], rows)
    return Sheet(["", figure.along, figure.up], list(_points(figure)))


def _points(figure: Lines) -> Iterator[list[str]]:
    for line in figure.lines:
        yield from ([line.name, _value(x), _value(y)] for x, y in zip(line.x, line.y, strict=True))


def _value(value: float | None) -> str:
    return "–" if value is None or value != value else words.number(value)


def _table(sheet: Sheet) -> list[str]:
    lines = [sheet.columns, *sheet.rows]
    head, *rows = ["| " + " | ".join(map(escape_markdown, line)) + " |" for line in lines]
    return [head, "| " + " | ".join(["---"] * len(sheet.columns)) + " |", *rows]
