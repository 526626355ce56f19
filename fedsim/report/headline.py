"""The result in plain sentences, made from the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedsim.report.matching import MatchedAttack, match_attacks
from fedsim.report.summary import same_measure
from fedsim.report.view import ComparedAttack, Group, View, compare_attacks, mean, unlike_first
from fedsim.report.words import LESS_IS_BETTER, change, estimate, listed, number, title, with_unit

TOLD = {
    "joint_success": "The attacker fooled every domain at once",
    "union_accuracy": "Left of it under attack",
    "pgd_accuracy": "Left of it under attack (PGD)",
}
"""What is said of scores of what scenarios attack by themselves, beside the attacks under ``trials:``."""
MARGIN = {"psnr": 2.0, "psnr_median": 2.0}
"""By how much a score must exceed that of a blind guess to count as better (dB); .05 for other metrics, 5 % for errors."""
UNBALANCED = 1.25
"""From how many times one in C on, as the accuracy of a constant guess, classes count as unbalanced."""


def sentences(views: Sequence[View]) -> list[str]:
    """What happened: each attack, how it fared in every arm that ran it, then the price in the task."""
    attacks = compare_attacks(views)
    found = [_attack(views, attack) for attack in attacks]
    found += _warnings(views)
    found += _missing(views)
    if task := _task(views, attacked=bool(attacks)):
        found.append(task)
    if differs := unlike_words(views[0].name, [view.name for view in unlike_first(views)]):
        found.append(differs)
    return found or [f"{listed([view.name for view in views])} ran to the end; nothing was measured."]


def unlike_words(first: str, others: Sequence[str]) -> str:
    """Say which arms are scored on other data or classes than the first; nothing where there are none."""
    if not others:
        return ""
    names, are = listed([f"“{name}”" for name in others]), "is" if len(others) == 1 else "are"
    return f"{names} {are} scored on other data or other classes than “{first}”: their numbers do not compare."


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


def _attack(views: Sequence[View], attack: ComparedAttack) -> str:
    fared = attack.fared(views)
    (first, group), others = fared[0], fared[1:]
    several = len(views) > 1
    start = f"{group.attack.replace('_', ' ')} {_outcome(group)}"
    partly = len(fared) < len(views)
    if (
        first is not views[0]
        or partly
        or any(view.run is not first.run for view in views)
        or attack.matched.remarks[first.name]
    ):
        start = f"with {_quoted(attack, first)} {start}" if several else start
    ends = [f"with {_quoted(attack, view)} it {_outcome(group)}" for view, group in others]
    text = "; ".join([start, *ends])
    return text[0].upper() + text[1:] + "."


def _quoted(attack: ComparedAttack, view: View) -> str:
    """The name of an arm, and how it differs in knowledge or victims."""
    remark = attack.matched.remarks[view.name]
    return f"“{view.name}”" + (f" ({remark})" if remark else "")


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
    """What attacks say against their own results, each once, with the arms it is said of unless these are all."""
    said: dict[str, dict[str, None]] = {}
    for view in views:
        for f in view.record["findings"]:
            if warning := f["notes"].get("warning"):
                said.setdefault(f"{f['label']}: {warning}", {})[view.name] = None
    return [f"{text[0].upper()}{text[1:]}{_only(list(names), views)}." for text, names in said.items()]


def _only(names: Sequence[str], views: Sequence[View]) -> str:
    return f" (with {listed([f'“{name}”' for name in names])})" if len(names) < len(views) else ""


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
    policies = [each for each in (said if isinstance(said, list) else [said]) if isinstance(each, Mapping)]
    named = [each for each in policies if not each.get("only") or party in list(each["only"])]
    return str(named[0].get("policy")) if named else ""


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
        return " ".join(_alone(view) for view in views if view.numbers["task"])
    return _scores(views, metrics, attacked) + _against_constant(metrics[0], views) + _balanced(views)


def _scores(views: Sequence[View], metrics: Sequence[str], attacked: bool) -> str:
    if attacked_models(metrics):
        return " ".join(_each(what, metric, views) for metric, what in _told(metrics).items())
    if len(views) == 1:
        return _of_one(views[0], metrics, attacked)
    name = title(metrics[0])
    if len(views) > 2 or unlike_first(views):
        return _each(f"Test {name}", metrics[0], views)
    first, last = (number(view.numbers["task"][metrics[0]], metrics[0]) for view in views)
    return f"Test {name} " + (f"stayed at {first}." if first == last else f"went from {first} to {last}.")


def _of_one(view: View, metrics: Sequence[str], attacked: bool) -> str:
    task, name = view.numbers["task"], title(metrics[0])
    rest = [f"{title(m)} {number(task[m], m)}" for m in metrics if m == "roc_auc"]
    seats = len(view.record["seats"]) - 1
    who = f"The hub and {seats} other {'seat' if seats == 1 else 'seats'}"
    reached = listed([f"{name} {number(task[metrics[0]], metrics[0])}", *rest])
    text = f"{who} reached test {reached} after {view.numbers['steps']} steps"
    if wrapped := [role for role, seat in view.record["seats"].items() if seat["wrappers"]]:
        return f"{text}; something is wrong at {listed(wrapped)}."
    return text + ("." if attacked else "; nobody attacked.")


def _alone(view: View) -> str:
    """The first metric of an arm that has none in common with the others."""
    metric, value = next(iter(view.numbers["task"].items()))
    return f"With “{view.name}” test {title(metric)} is {number(value, metric)}.{_against_constant(metric, [view])}"


def _against_constant(metric: str, views: Sequence[View]) -> str:
    """What a constant guess scores, and the difference of each arm to it; nothing where that is not known."""
    constants = [view.baseline.get(metric) for view in views]
    if None in constants or metric.endswith("success"):  # nothing fools a constant guess, which says little
        return ""
    by_constant: dict[str, list[View]] = {}
    for view, constant in zip(views, constants, strict=True):
        by_constant.setdefault(number(constant, metric), []).append(view)
    each = [
        f"{value}{_with(same, views)} ({_gains(metric, same)}{' against it' if i == 0 else ''})"
        for i, (value, same) in enumerate(by_constant.items())
    ]
    return f" A constant guess has {title(metric)} {listed(each)}."


def _with(some: Sequence[View], views: Sequence[View]) -> str:
    names = listed([f"“{view.name}”" for view in some])
    return f" with {names}" if len(some) < len(views) else ""


def _gains(metric: str, views: Sequence[View]) -> str:
    """The difference of each arm to a constant guess; one number where all are equal."""
    values = [(view.numbers["task"][metric], view.baseline[metric]) for view in views]
    gains = ["no number" if value is None else change(value - constant, metric) for value, constant in values]
    return gains[0] if len(set(gains)) == 1 else listed(gains)


def unbalanced(baseline: Mapping[str, Any]) -> bool:
    """Whether one class is so common that accuracy alone says little: saying it always scores far above one in C."""
    constant, even = (baseline.get(name) for name in ("accuracy", "balanced_accuracy"))
    return constant is not None and even is not None and constant > UNBALANCED * even


def _balanced(views: Sequence[View]) -> str:
    """Where classes are unbalanced, the balanced accuracy of each arm."""
    metric = "balanced_accuracy"
    known = all(view.numbers["task"].get(metric) is not None for view in views)
    if not known or not any(unbalanced(view.baseline) for view in views):
        return ""
    return f" Classes are unbalanced. {_each('Balanced accuracy', metric, views)}{_against_constant(metric, views)}"


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
    for attack in match_attacks({name: arm["trials"] for name, arm in arms.items()}):
        words = [_mean_trial(attack, name) for name in attack.results]
        name = f"{attack.name}, {title(attack.metric).removesuffix(' (dB)')}"
        found.append(f"{name[0].upper()}{name[1:]}: {'; '.join(words)}.")
    metrics = dict.fromkeys(metric for arm in arms.values() for metric in _told(list(arm["task"])))
    skewed = any(unbalanced({m: s["mean"] for m, s in arm.get("baseline", {}).items()}) for arm in arms.values())
    for metric in [*metrics, *(["balanced_accuracy"] if skewed else [])]:
        what = TOLD.get(metric, f"Test {title(metric)}")
        values = [
            f"{estimate(arm['task'][metric], metric)} with “{name}”{_mean_gain(arm, metric)}"
            for name, arm in arms.items()
            if metric in arm["task"]
        ]
        found.append(f"{what}: {listed(values)}.")
    differs = unlike_words(next(iter(arms)), unlike_arms(arms))
    return [f"Over {len(summary['seeds'])} seeds:", *found, *([differs] if differs else [])]


def unlike_arms(arms: Mapping[str, Any]) -> list[str]:
    """Of a summary with several arms, those that are scored on other data or classes than the first."""
    measures = {name: arm.get("measured_on") for name, arm in arms.items()}
    first = next(iter(measures.values()))
    return [name for name, measure in measures.items() if not same_measure(first, measure)]


def _mean_gain(arm: Mapping[str, Any], metric: str) -> str:
    gain, constant = (arm.get(key, {}).get(metric, {}).get("mean") for key in ("gain", "baseline"))
    if gain is None or constant is None:
        return ""
    return f" ({change(gain, metric)} against a constant guess, {number(constant, metric)})"


def _mean_trial(attack: MatchedAttack, arm: str) -> str:
    score, chance = (mean([(t[key] or {}).get("mean") for t in attack.results[arm]]) for key in ("score", "chance"))
    guess = f"a blind guess: {with_unit(chance, attack.metric)}"
    return f"{with_unit(score, attack.metric)} with “{attack.named(arm)}” ({guess})"
