"""``report.html``: one file that opens offline, made from run folders alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.errors import OutputError
from fedsim.outcome import MODEL, SAMPLES, SCHEMA
from fedsim.printable import make_printable
from fedsim.report import diff, words
from fedsim.report.curves import curves
from fedsim.report.drawing import drawings
from fedsim.report.figures import figures
from fedsim.report.headline import attacked_models, beats_chance, over_seeds, sentences, unlike_arms
from fedsim.report.matching import MatchedAttack, match_attacks
from fedsim.report.page_file import write_page
from fedsim.report.paths import PathFilter
from fedsim.report.pictures import galleries
from fedsim.report.reading import Run, read
from fedsim.report.scores import Entry, strip, strips
from fedsim.report.view import ComparedAttack, View, compare_attacks, same_task, views

if TYPE_CHECKING:
    from jinja2 import Environment

Row = dict[str, Any]
WIDEST = 9
"""The most metrics that stand side by side in the result table; more of them stand one below the other."""


def write(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Make the page of a run, or one that compares several; returns where it lies.

    Args:
        paths: run folders.
        out: default: ``report.html`` in the first folder, or ``comparison.html`` for several.

    Raises:
        OutputError: not finished runs, or the page cannot be written.
    """
    page = out or paths[0] / ("report.html" if len(paths) == 1 else "comparison.html")
    return write_page(page, lambda: render([read(path) for path in paths]), paths)


def render(runs: Sequence[Run]) -> str:
    """The page as HTML.

    Raises:
        OutputError: runs over several seeds can only be shown one at a time.
    """
    templates, paths = environment(), PathFilter(runs)
    if not any(run.over_seeds for run in runs):
        return paths.finish(templates.get_template("page.html").render(**_content(runs), paths=paths))
    if len(runs) > 1:
        raise OutputError(f"{runs[0].path}: a summary over seeds is shown by itself; compare single runs instead")
    return paths.finish(templates.get_template("seeds.html").render(**_seeds(runs[0]), paths=paths))


def environment() -> Environment:
    """The templates of all pages, and the filters they use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_shown,
    )
    for name in ("number", "change", "interval", "size", "title", "listed", "settings", "describe_noise"):
        found.filters[name] = getattr(words, name)
    found.filters["shell"] = shlex.join
    return found


def _shown(value: Any) -> Any:
    """What a template writes, with the harmful characters of texts spelled out; what is HTML already stays."""
    return make_printable(value, "\n\t") if isinstance(value, str) and not hasattr(value, "__html__") else value


def _content(runs: Sequence[Run]) -> dict[str, Any]:
    shown = views(runs)
    attacks = compare_attacks(shown)
    metrics = list(dict.fromkeys(metric for view in shown for metric in view.numbers["task"]))
    columns = _columns(shown, attacks)
    return {
        "runs": runs,
        "views": shown,
        "sentences": sentences(shown),
        "ownership": ownership(shown),
        "metrics": metrics,
        "notes": [words.OF_WHAT[metric] for metric in metrics if metric in words.OF_WHAT],
        "columns": columns,
        "results": [_result(view, shown[0], metrics, columns) for view in shown],
        "baselines": baselines(shown, metrics),
        "upright": len(metrics) + len(columns) > max(WIDEST, len(shown)),
        "strips": strips(shown),
        "galleries": galleries(shown),
        "figures": figures(shown),
        "around": _around(shown),
        "attacked": any(attacked_models(view.numbers["task"]) for view in shown),
        "curves": curves(shown),
        "drawings": drawings(shown),
        "audit": _audit(shown, attacks),
        "details": _details(shown, attacks),
        "stages": _stages(shown),
        "traffic": _traffic(shown),
        "differences": [diff.diff(runs[0], run) for run in runs[1:]],
    }


def ownership(shown: Sequence[View]) -> list[str]:
    """Who saw what of the seats: sentences, the same for all arms that are alike."""
    found: dict[str, list[str]] = {}
    for view in shown:
        found.setdefault(_describe_ownership(view.record), []).append(view.name)
    if len(found) == 1:
        return [sentence for sentence in found if sentence]
    return [f"{words.listed(names)}: {sentence}" for sentence, names in found.items() if sentence]


def _describe_ownership(record: Mapping[str, Any]) -> str:
    """One arm's sentence; empty where its run folder does not tell."""
    if record.get("one_operator"):
        return (
            "A simulation: one operator started every seat and saw everything, rows of truth and trained models of all "
            "seats as well."
        )
    withheld = {role: seat.get("withheld") or () for role, seat in record["seats"].items()}
    kept = {
        "rows of truth": [role for role, names in withheld.items() if SAMPLES in names],
        "trained models": [role for role, names in withheld.items() if MODEL in names],
        "columns, categories and scale": [role for role, names in withheld.items() if SCHEMA in names],
    }
    parts = [f"{what} with {words.listed(roles)}" for what, roles in kept.items() if roles]
    if not parts:
        return ""
    return f"Each seat has an operator of its own. What stayed: {'; '.join(parts)}, each in its own run folder."


@dataclass(frozen=True)
class Column:
    """A column of the result table: an attack, one of its metrics, and the arms that ran it."""

    attack: ComparedAttack
    name: str
    metric: str


def _columns(shown: Sequence[View], attacks: Sequence[ComparedAttack]) -> list[Column]:
    """One for each attack; with the PSNR, the share above 30 dB."""
    found = []
    for attack in attacks:
        matched = attack.matched
        found.append(Column(attack, matched.name, matched.metric))
        if matched.metric.startswith("psnr") and any(
            g.score("share_above_30") is not None for g in attack.groups.values()
        ):
            found.append(Column(attack, matched.name, "share_above_30"))
    return found


def _result(view: View, first: View, metrics: Sequence[str], columns: Sequence[Column]) -> Row:
    """A line of the result table; the difference to the first arm only where both are scored on the same data."""
    task, before = view.numbers["task"], first.numbers["task"]
    known = metrics if view is not first and same_task(first, view) else ()
    return {
        "view": view,
        "first": view is first,
        "task": [(m, task.get(m), _minus(task.get(m), before.get(m)) if m in known else None) for m in metrics],
        "trials": [_cell(column, view) for column in columns],
        "bytes": view.numbers["traffic"]["bytes"],
        "more_bytes": view.numbers["traffic"]["bytes"] - first.numbers["traffic"]["bytes"],
        "seconds": view.numbers["seconds"],
    }


def _cell(column: Column, view: View) -> Row | None:
    """None where the arm did not run the attack."""
    if (group := column.attack.groups.get(view.name)) is None:
        return None
    metric, matched = column.metric, column.attack.matched
    return {
        "metric": metric,
        "score": group.score(metric),
        "chance": group.chance(metric),
        "beats": beats_chance(group) and metric == group.metric,
        "remark": matched.remarks[view.name],
    }


def baselines(shown: Sequence[View], metrics: Sequence[str]) -> list[Row]:
    """What constant guesses score, a line for all arms for which that is the same."""
    found: dict[str, Row] = {}
    for view in shown:
        if any(metric in view.baseline for metric in metrics):
            values = [(metric, view.baseline.get(metric)) for metric in metrics]
            found.setdefault(repr(values), {"values": values, "arms": []})["arms"].append(view.name)
    return list(found.values())


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _audit(shown: Sequence[View], attacks: Sequence[ComparedAttack]) -> list[Row]:
    """Attackers and victims: what was granted, seen, used; equal lines of several arms or victims in one."""
    found: dict[str, Row] = {}
    for attack, view, f in _findings(shown, attacks):
        unused = [name for name in f["granted"] if name not in f["used"]]
        row = {k: f[k] for k in ("seat", "granted", "saw", "used", "paper")}
        row |= {"unused": unused, "label": attack.matched.name.removesuffix(f" at {f['seat']}")}
        entry = found.setdefault(repr(row), {**row, "victims": {}, "arms": {}})
        entry["victims"][f["victim"]] = entry["arms"][view.name] = None
    return list(found.values())


def _findings(
    shown: Sequence[View], attacks: Sequence[ComparedAttack]
) -> Iterator[tuple[ComparedAttack, View, Mapping[str, Any]]]:
    """What ``seats.json`` has of every attack at every victim, once, attack by attack."""
    done = set()
    for attack, view in ((attack, view) for attack in attacks for view in shown):
        for trial in attack.matched.results.get(view.name, ()):
            key = trial["trial"], trial["seat"], trial["victim"]
            if (view.name, key) not in done:
                done.add((view.name, key))
                yield attack, view, _finding(view, key)


def _finding(view: View, key: tuple[int, str, str]) -> Mapping[str, Any]:
    for f in view.record["findings"]:
        if (f["trial"], f["seat"], f["victim"]) == key:
            return dict(f)
    raise OutputError(f"{view.run.path / 'seats.json'}: holds nothing of the attack at {key[1]} against {key[2]}")


def _details(shown: Sequence[View], attacks: Sequence[ComparedAttack]) -> list[Row]:
    """Every attack at every victim, with all scores and the attack's own notes."""
    found = []
    for attack, view, f in _findings(shown, attacks):
        key = f["trial"], f["seat"], f["victim"]
        trial = next(t for t in view.numbers["trials"] if (t["trial"], t["seat"], t["victim"]) == key)
        found.append({**trial, "view": view, "finding": f, "label": attack.matched.title})
    return found


def _stages(shown: Sequence[View]) -> list[Row]:
    """What stages counted: numbers by name."""
    fixed = ("seat", "link", "stage")
    return [
        {"view": view, **{k: s[k] for k in fixed}, "numbers": {k: v for k, v in s.items() if k not in fixed}}
        for view in shown
        for s in view.record.get("stages", ())
    ]


def _around(shown: Sequence[View]) -> list[Row]:
    """What is around seats and what it did, in each arm."""
    return [
        {
            "changes": [],
            **{name: value for name, value in told.items() if value is not None},
            "view": view,
            "seat": role,
            "settings": wrapper,
        }
        for view in shown
        for role, seat in view.record["seats"].items()
        for wrapper, told in zip(seat["wrappers"], seat["describe"].get("around", ()), strict=False)
    ]


def _traffic(shown: Sequence[View]) -> list[Row]:
    """Frames and bytes of each kind on each link; for each arm a pair, or None."""
    found: dict[tuple[str, str, str], list[tuple[int, int] | None]] = {}
    for i, view in enumerate(shown):
        for t in view.record["traffic"]:
            cells = found.setdefault((t["from"], t["to"], t["message"]), [None] * len(shown))
            cells[i] = (t["frames"], t["bytes"])
    most = max((cell[1] for cells in found.values() for cell in cells if cell), default=1) or 1
    rows = [{"from": f, "to": t, "message": m, "cells": cells, "most": most} for (f, t, m), cells in found.items()]
    return sorted(rows, key=lambda row: -max(cell[1] for cell in row["cells"] if cell))


def _seeds(run: Run) -> dict[str, Any]:
    arms: Mapping[str, Any] = run.summary["arms"]
    metrics = list(dict.fromkeys(metric for arm in arms.values() for metric in arm["task"]))
    attacks = match_attacks({name: arm["trials"] for name, arm in arms.items()})
    return {
        "run": run,
        "sentences": over_seeds(run.summary),
        "arms": arms,
        "metrics": metrics,
        "certainty": words.how_certain(_spreads(arms), run.summary["level"]),
        "unlike": unlike_arms(arms),
        "upright": len(metrics) > max(WIDEST, len(arms)),
        "tasks": [strip(f"test {words.title(m)}", _entries(arms, m), m) for m in metrics[:1]],
        "strips": [t for t in _attack_strips(attacks) if t.lines],
        "attacks": attacks,
    }


def _spreads(arms: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the tables of a page over seeds show with intervals."""
    tasks = [each for arm in arms.values() for key in ("task", "price") for each in arm[key].values()]
    return tasks + [trial[key] for arm in arms.values() for trial in arm["trials"] for key in ("score", "chance")]


def _entries(arms: Mapping[str, Any], metric: str) -> list[Entry]:
    """Where each arm stands by a metric of the task, beside a constant guess."""
    found = []
    for name, arm in arms.items():
        task, constant = (arm.get(key, {}).get(metric, {}) for key in ("task", "baseline"))
        if task.get("mean") is not None:
            drawn = task["low"] is not None
            found.append(Entry(name, task["mean"], _ends(task), constant.get("mean"), interval=drawn))
    return found


def _ends(spread: Mapping[str, Any]) -> list[float]:
    """The ends of an interval; none where there is no interval."""
    return [] if spread["low"] is None else [spread["low"], spread["high"]]


def _attack_strips(attacks: Sequence[MatchedAttack]) -> list[Any]:
    """A strip for each attack at each victim, with the arms that ran it."""
    found = []
    for attack in attacks:
        for victim in dict.fromkeys(str(trial["victim"]) for trials in attack.results.values() for trial in trials):
            entries = []
            for name, trial in ((name, trial) for name, trials in attack.results.items() for trial in trials):
                score = trial["score"]
                if trial["victim"] == victim and score["mean"] is not None:
                    chance, drawn = (trial["chance"] or {}).get("mean"), score["low"] is not None
                    entries.append(Entry(attack.named(name), score["mean"], _ends(score), chance, interval=drawn))
            against = "" if f"against {victim}" in attack.title else f" against {victim}"
            found.append(strip(f"{attack.title}{against}: {words.title(attack.metric)}", entries, attack.metric))
    return found
