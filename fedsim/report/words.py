"""Numbers as people read them: percent, dB, bytes, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedsim.confidence import METHODS

NAMES: Mapping[str, str] = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "psnr": "PSNR (dB)",
    "psnr_median": "median PSNR (dB)",
    "psnr_random": "PSNR, random rows (dB)",
    "share_above_30": "share above 30 dB",
    "mse": "mean squared error",
    "ssim": "SSIM",
    "identified": "rows identified",
    "column_error": "column error (spreads)",
    "column_error_worst": "worst column error (spreads)",
    "auc": "AUC",
    "share_not_finite": "rows without a number",
    "generalisation_gap": "generalisation gap",
    "pgd_accuracy": "attacked accuracy",
    "pgd_accuracy_mean": "attacked accuracy, mean",
    "certified_accuracy": "certified accuracy",
    "certified_accuracy_party": "certified accuracy, worst seat",
    "one_bit_accuracy": "accuracy, worst bit",
    "bounds_broken": "bounds broken",
    "chose_the_best": "right choice",
    "decided": "any choice",
    "pilot_pulls": "pulls of the pilot",
    "gap": "gap (nats)",
    "four_times_bias": "four times the bias (nats)",
    "sigma": "sigma (nats)",
    "best_gain": "gain of the best (nats)",
    "dropped": "parties that fell silent",
    "source_accuracy": "source accuracy",
    "poison_label": "taken for the poison label",
    "marginal_mismatch": "marginal mismatch (MMD)",
    "lower_bound": "lower bound on the target error",
    "joint_success": "all domains fooled",
    "domain_success": "one domain fooled",
    "union_accuracy": "accuracy, attacked",
    "lowest_accuracy": "lowest clean accuracy",
    "clean_accuracy": "accuracy, attacked rows",
    "pgd_long": "attacked accuracy, long",
    "pgd_restarts": "attacked accuracy, restarts",
    "apgd_accuracy": "attacked accuracy, APGD",
}
OF_WHAT: Mapping[str, str] = {
    "source_accuracy": "Scores are over rows of the target domain, unless they name the source.",
    "clean_accuracy": "Attacked are the first of the held-out rows: compare with the accuracy on these, not on all.",
}
"""What is to be said above a table that has a metric: over which rows its scores are."""
SUBTRACT = "everybody who has the file can subtract"
"""What may be done to noise that follows from the public seed."""
OUTCOMES = frozenset({"chose_the_best", "decided", "victim_taken"})
"""Metrics that are 0 or 1 in a run: over seeds they are shares of runs."""
LESS_IS_BETTER = frozenset(
    {"log_loss", "mse", "column_error", "column_error_worst", "generalisation_gap", "bounds_broken", "share_not_finite"}
)


def title(metric: str) -> str:
    """The name of a metric in a table."""
    return NAMES.get(metric, metric.replace("_", " "))


def number(value: Any, metric: str = "") -> str:
    """A value of a metric, as precise as people care: ``.971``, ``52.3``, ``95 %``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if metric.startswith("share") or metric == "identified":
        return f"{100 * value:.0f} %"
    if metric.startswith("psnr"):
        return f"{value:.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    value += 0.0  # a zero has no sign
    if value and (abs(value) < 0.0005 or abs(value) >= 1e6):
        return f"{value:.2e}"
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def with_unit(value: Any, metric: str) -> str:
    """A value inside a sentence: ``52.3 dB``."""
    return number(value, metric) + (" dB" if metric.startswith("psnr") and value is not None else "")


def change(value: float | None, metric: str = "") -> str:
    """A signed difference, ``−.012``; ``±0`` where it rounds to nothing."""
    if value is None:
        return ""
    small = isinstance(value, float) and abs(value) < 0.0005 and not metric.startswith(("share", "psnr"))
    text = number(abs(value), metric)
    if small or not any(digit in text for digit in "123456789"):
        return "±0"
    return ("+" if value > 0 else "−") + text


def interval(spread: Mapping[str, Any], metric: str = "", signed: bool = False) -> str:
    """The interval of a spread: ``.12 to .34``, or how many values there are where they are too few for one.

    Args:
        spread: over seeds, as `fedsim.report.seeds.spread` makes it.
        metric: says how numbers are written.
        signed: whether it is an interval of a difference.
    """
    if spread["low"] is None:
        return "no interval" if spread["n"] > 1 else f"n = {spread['n']}, no interval"
    low, high = ((change if signed else number)(spread[end], metric) for end in ("low", "high"))
    return f"{low} to {high}"


def estimate(spread: Mapping[str, Any] | None, metric: str = "") -> str:
    """A mean with its interval in parentheses, where it has one; a dash where a seed has no number."""
    if spread is None or spread["mean"] is None:
        return "–"
    ends = f" ({interval(spread, metric)})" if spread["low"] is not None else ""
    return number(spread["mean"], metric) + ends


def how_certain(spreads: Iterable[Mapping[str, Any]], level: float) -> str:
    """How the intervals of some spreads are computed, and from how many values: the sentence above or below a table."""
    shown = [each for each in spreads if each["mean"] is not None]
    methods = dict.fromkeys(METHODS[each["method"]] for each in shown if each["low"] is not None)
    counts = sorted({each["n"] for each in shown})
    many = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}" if counts else "no values"
    if not methods:
        return f"{many}: no intervals, which take two seeds or more."
    return f"{100 * level:g} % confidence intervals ({'; '.join(methods)}), {many}; they are not clipped to possible values."


def size(count: float | None) -> str:
    """Bytes: ``12.3 MB``."""
    if count is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} bytes"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def settings(plugin: Mapping[str, Any]) -> str:
    """A plugin with its settings in one line: ``fake_gradient (sigma 1.1, bank 1000)``."""
    rest = [f"{k} {_plain(v)}" for k, v in plugin.items() if k != "kind" and v is not None]
    return f"{plugin.get('kind', '?')}" + (f" ({', '.join(rest)})" if rest else "")


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) + "}"
    return str(value)


def describe_noise(manifest: Mapping[str, Any]) -> str:
    """Describe what the noise and the initial weights of the seats of a run follow from; empty if its manifest does not say."""
    sources: Mapping[str, str] = manifest.get("noise_source") or {}
    simulated = [role for role, source in sources.items() if source == "seed"]
    if not sources:
        return ""
    if not simulated:
        return (
            "Noise and initial weights follow from secrets and fresh bytes of the seats, and are others in every run."
        )
    who = "all seats" if len(simulated) == len(sources) else ", ".join(simulated)
    return f"Simulated: noise and initial weights of {who} follow from the public seed; {SUBTRACT} this noise."
