"""The result table at the end of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedsim.cli.terminal import Terminal
from fedsim.report.headline import unbalanced, unlike_arms, unlike_words
from fedsim.report.matching import MatchedAttack, match_attacks
from fedsim.report.reading import read
from fedsim.report.seeds import spread
from fedsim.report.view import mean
from fedsim.report.words import how_certain, interval, number, size, title

TASK = (
    "joint_success", "domain_success", "accuracy", "balanced_accuracy", "pgd_accuracy", "source_accuracy", "poison_label",
    "victim_taken", "roc_auc", "log_loss", "chose_the_best", "decided", "pulls", "union_accuracy",
)  # fmt: skip
WIDEST, WIDEST_METRIC = 15, 17
"""Characters of a line of a heading: of an arm, of a metric."""
WIDEST_ATTACK = 28
"""The same of the name of an attack."""
BALANCED = "balanced_accuracy"
LEFT_OUT = ("macro_f1",)
"""Of the task, what no table shows; whatever else a scenario measures stands in the table over seeds, a line each."""
CONSTANT, GAP = "constant guess", "not run"
Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Fared:
    """One attack of one arm: score and blind guess, each a mean over the victims; over seeds a spread of such means."""

    victims: Sequence[str]
    score: Any
    chance: Any

    @property
    def against(self) -> str:
        """The victims, in few words."""
        return f"{len(self.victims)} seats" if len(self.victims) > 2 else ", ".join(self.victims)


def print_results(path: Path) -> None:
    """What each arm reached, what each attack scored beside a blind guess, and what it cost; then where the run lies."""
    summary = read(path).summary
    console = Terminal()
    for table in [_over_seeds(summary)] if "seeds" in summary else _over_arms(summary, console):
        console.print(table)
        console.print()
    for line in _remarks(summary):
        console.print(line, highlight=False, markup=False)
    if "seeds" in summary:
        console.print(_certainty(summary), highlight=False)
    console.print()
    console.print(f"run folder: {path}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"report:     {path / 'report.html'}", soft_wrap=True, highlight=False, markup=False)


def bare(name: str, *columns: str) -> Table:
    """A table as all commands print it: a line under the heading, nothing else."""
    table = Table(*columns, title=escape(name), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.show_edge = False
    table.pad_edge = False
    if not name:
        table.title = None
    return table


def _over_arms(summary: Numbers, console: Console) -> list[Table]:
    """One table with a row an arm where it fits, attacks in one of their own if not; where neither does, a column an arm."""
    name, arms = f"{summary['name']} (seed {summary['seed']})", summary["arms"]
    attacks = match_attacks({arm: numbers["trials"] for arm, numbers in arms.items()})
    whole = _row_an_arm(name, arms, attacks)
    if fits(whole, console):
        return [whole]
    others = [_row_an_attack(attacks, arms)] if attacks else []
    if fits(_row_an_arm(name, {fill(arm, WIDEST): numbers for arm, numbers in arms.items()}, []), console):
        return [_row_an_arm(name, arms, []), *others]
    return [*_upright(name, arms, console), *others]


def fits(table: Table, console: Console) -> bool:
    """Whether a table can be printed without a cut."""
    unlimited = console.options.update(width=10 * console.width)
    return console.measure(table, options=unlimited).maximum <= console.width


def _upright(name: str, arms: Numbers, console: Console) -> list[Table]:
    """Tables with a column an arm, each with as many arms as fit; constant guesses have a column, or else lines."""
    if fits(whole := _row_a_metric(name, arms, _constants(arms)), console):
        return [whole]
    for many in range(len(arms), 0, -1):
        parts = [dict(list(arms.items())[at : at + many]) for at in range(0, len(arms), many)]
        tables = [_row_a_metric(name if not at else "", part) for at, part in enumerate(parts)]
        if all(fits(table, console) for table in tables):
            break
    return tables


def _row_a_metric(name: str, arms: Numbers, constants: Mapping[str, Numbers] | None = None) -> Table:
    table, columns = bare(name, ""), constants or {}
    for heading in (*arms, *columns):
        table.add_column(escape(fill(heading, WIDEST)), justify="right", no_wrap=True)
    for metric in _metrics(arms):
        values = [numbers["task"].get(metric) for numbers in arms.values()]
        values += [constant.get(metric) for constant in columns.values()]
        table.add_row(title(metric), *(number(value, metric) for value in values))
        guesses = [numbers.get("baseline", {}).get(metric) for numbers in arms.values()]
        if constants is None and guesses != [None] * len(guesses):
            table.add_row(f"  {CONSTANT}", *(number(value, metric) for value in guesses), style="dim")
    table.add_row("traffic", *(size(numbers["traffic"]["bytes"]) for numbers in arms.values()))
    table.add_row("seconds", *(f"{numbers['seconds']:.1f}" for numbers in arms.values()))
    return table


def _constants(arms: Numbers) -> dict[str, Numbers]:
    """What constant guesses score, by a heading that says for which arms, if it is not the same for all."""
    found: dict[str, tuple[Numbers, list[str]]] = {}
    for arm, numbers in arms.items():
        if baseline := {m: v for m, v in numbers.get("baseline", {}).items() if m in numbers["task"]}:
            found.setdefault(json.dumps(baseline, sort_keys=True), (baseline, []))[1].append(arm)
    several = len(found) > 1
    return {f"{CONSTANT}: {', '.join(who)}" if several else CONSTANT: baseline for baseline, who in found.values()}


def _metrics(arms: Numbers) -> list[str]:
    """What the tables over arms show of the task; the balanced accuracy where classes are unbalanced."""
    skewed = any(unbalanced(arm.get("baseline", {})) for arm in arms.values())
    shown = [metric for metric in TASK if metric != BALANCED or skewed]
    return [metric for metric in shown if any(metric in arm["task"] for arm in arms.values())]


def _row_an_arm(name: str, arms: Numbers, attacks: Sequence[MatchedAttack]) -> Table:
    table, metrics, constants = bare(name, "arm"), _metrics(arms), _constants(arms)
    pairs = [
        (f"{escape(fill(attack.name, WIDEST_ATTACK))}\n{title(attack.metric)}", "blind\nguess") for attack in attacks
    ]
    for heading in (
        *(fill(title(metric), WIDEST_METRIC) for metric in metrics),
        *(word for pair in pairs for word in pair),
        "traffic",
        "seconds",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm, numbers in arms.items():
        task = [number(numbers["task"].get(metric), metric) for metric in metrics]
        scores = [cell for attack in attacks for cell in _pair(attack, arm)]
        table.add_row(escape(arm), *task, *scores, size(numbers["traffic"]["bytes"]), f"{numbers['seconds']:.1f}")
    for heading, constant in constants.items():
        values = [number(constant.get(metric), metric) for metric in metrics]
        table.add_row(escape(heading), *values, *[""] * (2 * len(attacks) + 2), style="dim")
    return table


def _pair(attack: MatchedAttack, arm: str) -> tuple[str, str]:
    fared = _fared(attack).get(arm)
    return (number(fared.score, attack.metric), number(fared.chance, attack.metric)) if fared else (GAP, "")


def _row_an_attack(attacks: Sequence[MatchedAttack], arms: Iterable[str]) -> Table:
    """Every attack, and below it all arms, also those that did not run it."""
    table = bare("attacks (mean over their victims)", "attack, arm")
    for heading in ("score", "blind guess"):
        table.add_column(heading, justify="right", no_wrap=True)
    for attack in attacks:
        table.add_row(escape(_what(attack)), "", "")
        for arm in arms:
            table.add_row(f"  {escape(attack.named(arm))}", *_pair(attack, arm))
        table.add_section()
    return table


def _what(attack: MatchedAttack) -> str:
    """Who attacks whom, and how that is measured; victims stand beside the arms where they are not the same in all."""
    victims = {fared.against for fared in _fared(attack).values()}
    against = f" against {victims.pop()}" if len(victims) == 1 and " against " not in attack.title else ""
    return f"{attack.title}{against}: {title(attack.metric)}"


def _fared(attack: MatchedAttack) -> dict[str, Fared]:
    """By arm, how an attack did over all its victims."""
    return {
        arm: Fared(
            [str(trial["victim"]) for trial in trials],
            *(_mean([trial[key] for trial in trials]) for key in ("score", "chance")),
        )
        for arm, trials in attack.results.items()
    }


def _mean(values: Sequence[Any]) -> Any:
    """The mean over the victims; of spreads over seeds, the spread of each seed's mean."""
    if not all(isinstance(value, Mapping) for value in values):
        return mean(values)
    return spread([mean(of_seed) for of_seed in zip(*(value["values"] for value in values), strict=True)])


def _over_seeds(summary: Numbers) -> Table:
    seeds = ", ".join(map(str, summary["seeds"]))
    table = bare(f"{summary['name']} (seeds {seeds})", "arm, what")
    for heading in ("mean", "interval", "baseline"):
        table.add_column(heading, justify="right", no_wrap=True)
    attacks = match_attacks({name: arm["trials"] for name, arm in summary["arms"].items()})
    for name, arm in summary["arms"].items():
        table.add_row(escape(name), "", "", "")
        for what, *numbers in _of_arm(name, arm, attacks):
            table.add_row(f"  {escape(what)}", *numbers)
        table.add_section()
    return table


def _of_arm(name: str, arm: Numbers, attacks: Sequence[MatchedAttack]) -> Iterator[tuple[str, str, str, str]]:
    constants = arm.get("baseline", {})
    skewed = unbalanced({metric: spread["mean"] for metric, spread in constants.items()})
    for metric in dict.fromkeys([*TASK, *arm["task"]]):
        if metric in arm["task"] and metric not in LEFT_OUT and (metric != BALANCED or skewed):
            constant = number(constants[metric]["mean"], metric) if metric in constants else ""
            yield title(metric), *_ends(arm["task"][metric], metric), constant
    for attack in attacks:
        if (fared := _fared(attack).get(name)) is None:
            yield f"{attack.title}: {title(attack.metric)}", GAP, "", ""
            continue
        against = "" if " against " in attack.title else f" against {fared.against}"
        what = f"{attack.title}{against}: {title(attack.metric)}"
        yield what, *_ends(fared.score, attack.metric), number((fared.chance or {}).get("mean"), attack.metric)


def _ends(value: Numbers, metric: str) -> tuple[str, str]:
    return number(value["mean"], metric), interval(value, metric) if value["low"] is not None else "–"


def _certainty(summary: Numbers) -> str:
    """How the intervals of the table over seeds are computed."""
    arms = summary["arms"].values()
    shown = [spread for arm in arms for spread in arm["task"].values()]
    return how_certain([*shown, *(trial["score"] for arm in arms for trial in arm["trials"])], summary["level"])


def _remarks(summary: Numbers) -> list[str]:
    """What the tables alone would not tell."""
    arms = summary["arms"]
    found = [unlike_words(next(iter(arms)), unlike_arms(arms))]
    if any(arm.get("baseline") for arm in arms.values()):
        found.append("constant guess: the commonest training class, with the shares of the classes as probabilities")
    return [line for line in found if line]
