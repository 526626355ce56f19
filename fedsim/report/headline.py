"""The result in plain sentences, made from the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedsim.report.view import Group, View, group_of, groups, mean
from fedsim.report.words import LESS_IS_BETTER, estimate, listed, number, title, with_unit

TOLD = {
    "joint_success": "The attacker fooled every domain at once",
    "union_accuracy": "Left of it under attack",
    "pgd_accuracy": "Left of it under attack (PGD)",
}
"""What is said of scores of what scenarios attack by themselves, beside the attacks under ``trials:``."""
MARGIN = {"psnr": 2.0, "psnr_median": 2.0}
"""By how much a score must exceed that of a blind guess to count as better (dB); .05 for other metrics, 5 % for errors."""


def sentences(views: Sequence[View]) -> list[str]:
    """What happened: each trial, how it fared in every arm, then the price in the task."""
    trials = dict.fromkeys(group.number for view in views for group in groups(view))
    found = [_trial(views, trial) for trial in trials]
    found += _warnings(views)
    found += _missing(views)
    if task := _task(views, attacked=bool(trials)):
        found.append(task)
    return found or [f"{listed([view.name for view in views])} ran to the end; nothing was measured."]


def beats_chance(group: Group) -> bool:
    """Whether a trial's mean score is better than that of a blind guess by more than a margin."""
    return _beats(group, group.metric)


def _beats(group: Group, metric: str) -> bool:
    score, chance, luck = group.score(metric), group.chance(metric), group.chance(f"{metric}_at_best")
    if score is None or chance is None:
        return False
    if metric in LESS_IS_BETTER:
        return score < 0.95 * chance
    return score > (chance + MARGIN.get(metric, 0.05) if luck is None else luck)


def _trial(views: Sequence[View], trial: int) -> str:
    fared = [(view, group) for view in views if (group := group_of(view, trial))]
    (first, group), others = fared[0], fared[1:]
    start = f"{group.attack.replace('_', ' ')} {_outcome(group)}"
    if first is not views[0] or any(view.run is not first.run for view in views):
        start = f"with “{first.name}” {start}"
    ends = [f"with “{view.name}” it {_outcome(group)}" for view, group in others]
    text = "; ".join([start, *ends])
    return text[0].upper() + text[1:] + "."


def _outcome(group: Group) -> str:
    score, chance = with_unit(group.score(), group.metric), with_unit(group.chance(), group.metric)
    thing = "image" if group.image else "row"
    if group.metric.startswith("psnr"):
        if not beats_chance(group):
            return f"did no better than the mean {thing} ({score} against {chance}){_and_yet(group)}"
        share = group.score("share_above_30")
        things = f"{thing} parts" if len(group.trials) > 1 else f"{thing}s"
        reach = f"rebuilt {number(share, 'share')} of the {things} above 30 dB" if share is not None else "rebuilt rows"
        return f"{reach} (mean {score}; the mean {thing} scores {chance})"
    if not beats_chance(group):
        return f"did no better than a blind guess ({title(group.metric)} {score} against {chance}){_and_yet(group)}"
    if group.metric == "auc":
        return f"told the classes apart with AUC {score} (a blind guess: {chance})"
    if group.metric == "accuracy":
        return f"inferred labels with accuracy {score} (a blind guess: {chance})"
    if group.metric == "correlation":
        return f"recovered {thing}s that correlate {score} with the true ones (a blind guess: {chance})"
    return f"reached {title(group.metric)} {score} (a blind guess: {chance})"


def _warnings(views: Sequence[View]) -> list[str]:
    """What attacks say against their own results, once each."""
    said = {
        f"{f['label']}: {f['notes']['warning']}": None
        for view in views
        for f in view.record["findings"]
        if f["notes"].get("warning")
    }
    return [f"{text[0].upper()}{text[1:]}." for text in said]


def _missing(views: Sequence[View]) -> list[str]:
    """Who did not answer in time, and what was done about it."""
    done = {"drop": "the step went on without it", "impute": "the mean of what it had sent stood in"}
    found = []
    for view in views:
        for party, count in view.numbers.get("missing", {}).items():
            times, what = "once" if count == 1 else f"{count} times", done.get(_policy(view, party), "see its rows")
            found.append(f"With “{view.name}” {party} did not answer in time {times}; {what}.")
    return found


def _policy(view: View, party: str) -> str:
    """What the file says of messages of a party that are missing."""
    said = view.run.scenario.get("missing") or []
    policies = said if isinstance(said, list) else [said]
    return next((p["policy"] for p in policies if party in (p.get("only") or [party])), "")


def _and_yet(group: Group) -> str:
    """One figure of merit can be at chance while another is not."""
    if group.metric == "correlation" or not _beats(group, "correlation"):
        return ""
    return f", and yet what it rebuilt correlates {number(group.score('correlation'))} with the truth"


def attacked_models(metrics: Iterable[str]) -> bool:
    """Whether a scenario itself attacked what it trained, and scores that."""
    return not TOLD.keys().isdisjoint(metrics)


def _task(views: Sequence[View], attacked: bool) -> str:
    metrics = [metric for metric in views[0].numbers["task"] if all(metric in view.numbers["task"] for view in views)]
    if not metrics:
        return ""
    if attacked_models(metrics):
        return " ".join(_each(what, metric, views) for metric, what in _told(metrics).items())
    name, values = title(metrics[0]), [number(view.numbers["task"][metrics[0]], metrics[0]) for view in views]
    if len(views) == 1:
        rest = [f"{title(m)} {number(views[0].numbers['task'][m], m)}" for m in metrics if m == "roc_auc"]
        seats = len(views[0].record["seats"]) - 1
        who = f"The hub and {seats} other {'seat' if seats == 1 else 'seats'}"
        reached = f"{who} reached test {listed([f'{name} {values[0]}', *rest])} after {views[0].numbers['steps']} steps"
        if wrapped := [role for role, seat in views[0].record["seats"].items() if seat["wrappers"]]:
            return f"{reached}; something is wrong at {listed(wrapped)}."
        return reached + ("." if attacked else "; nobody attacked.")
    if len(views) == 2:
        stayed = values[0] == values[1]
        return f"Test {name} " + (f"stayed at {values[0]}." if stayed else f"went from {values[0]} to {values[1]}.")
    return _each(f"Test {name}", metrics[0], views)


def _told(metrics: Sequence[str]) -> dict[str, str]:
    """The metrics of the task that are told in words, and what is said of each."""
    return {m: TOLD.get(m, f"Test {title(m)}") for m in metrics if m == metrics[0] or m in TOLD}


def _each(what: str, metric: str, views: Sequence[View]) -> str:
    """One metric of every arm: ``what: .1 with one, .2 with other.``"""
    values = [number(view.numbers["task"][metric], metric) for view in views]
    if len(views) == 1:
        return f"{what}: {values[0]}."
    return f"{what}: " + listed([f"{v} with “{view.name}”" for v, view in zip(values, views, strict=True)]) + "."


def over_seeds(summary: Mapping[str, Any]) -> list[str]:
    """The same over the runs of several seeds: means, with their intervals for the task."""
    arms = summary["arms"]
    found = []
    for which in dict.fromkeys(trial["trial"] for arm in arms.values() for trial in arm["trials"]):
        words = [word for name, arm in arms.items() if (word := _mean_trial(arm["trials"], which, name))]
        first = next(t for arm in arms.values() for t in arm["trials"] if t["trial"] == which)
        name = f"{first['label']}, {title(first['metric']).removesuffix(' (dB)')}"
        found.append(f"{name[0].upper()}{name[1:]}: {'; '.join(words)}.")
    for metric, what in _told(list(next(iter(arms.values()))["task"])).items():
        values = [f"{estimate(arm['task'].get(metric), metric)} with “{name}”" for name, arm in arms.items()]
        found.append(f"{what}: {listed(values)}.")
    return [f"Over {len(summary['seeds'])} seeds:", *found]


def _mean_trial(trials: Sequence[Mapping[str, Any]], which: int, arm: str) -> str:
    same = [trial for trial in trials if trial["trial"] == which]
    if not same:
        return ""
    metric = same[0]["metric"]
    score, chance = (mean([trial[key]["mean"] for trial in same]) for key in ("score", "chance"))
    guess = f"a blind guess: {with_unit(chance, metric)}"
    return f"{with_unit(score, metric)} with “{arm}” ({guess})"
