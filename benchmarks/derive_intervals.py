"""Derive the intervals of the documentation from the records: ``python benchmarks/derive_intervals.py [--rewrite] [PAGE ...]``.

Reads every ``mean (low to high)`` of the pages (default: README.md and docs/*.md) and looks for the values behind it in the
records under docs/results that its section links, or else the page (all, where it links the folder): one value a seed,
differences between two arms under the same seeds, means over victims. An interval is right if mean and ends are those of
`fedsim.confidence` to the last digit that is printed. Writes where each comes from to ``docs/results/intervals.json``, names
those that no record has, and exits 1 if there are any. ``--rewrite`` replaces ends that are those of the percentile bootstrap,
which pages had before.

Where two series have the same mean and ends to the last digit, the file may name the other one: put the right name there by
hand; it stays as long as it is right. A test derives every interval anew from the series that the file names.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from fedsim.confidence import LEVEL, Estimate, estimate_mean, estimate_outcomes, estimate_share
from fedsim.report.words import OUTCOMES

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
SOURCES = RESULTS / "intervals.json"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NUMBER = r"[+−±]?(?:\d[\d,]*\.?\d*|\.\d+)"
INTERVAL = re.compile(
    rf"(?<![\w.,])(?P<mean>{NUMBER})(?: dB)?(?:\*\*)?(?:\s\(|[,;]\s)(?P<low>{NUMBER})\sto\s(?P<high>{NUMBER})(?![\w.%])"
)
LEFT_OUT = {"balanced_accuracy", "macro_f1", "log_loss"}
"""Metrics that no page quotes with an interval; they are often as large as one that is quoted."""
CODE = re.compile(r"```.*?```", re.DOTALL)
"""Parts of a page that are not looked at."""


NOTHING = Estimate(0.0, 0.0, 0.0, 0, "none")


@dataclass(frozen=True)
class Series:
    """Values on record: where they stand, and one number a seed (or run, or image)."""

    where: str
    values: tuple[float, ...]
    outcomes: bool = False

    @cached_property
    def mean(self) -> float:
        """Of the values."""
        return float(np.mean(self.values))

    @cached_property
    def estimate(self) -> Estimate:
        """The mean with its confidence interval."""
        return estimate_outcomes(self.values) if self.outcomes else estimate_mean(self.values)

    @cached_property
    def former(self) -> tuple[float, float]:
        """The ends of the percentile bootstrap interval, which pages had before."""
        means = np.random.default_rng(0).choice(np.asarray(self.values), (10_000, len(self.values))).mean(axis=1)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


@dataclass(frozen=True)
class Known(Series):
    """A series of which only count, mean and standard deviation (or successes) are on record."""

    known: Estimate = NOTHING

    @cached_property
    def mean(self) -> float:
        """Of the values."""
        return self.known.mean

    @cached_property
    def estimate(self) -> Estimate:
        """The mean with its confidence interval."""
        return self.known

    @cached_property
    def former(self) -> tuple[float, float]:
        """The ends that pages had before: of shares the same."""
        return self.known.low, self.known.high


@dataclass(frozen=True)
class Found:
    """An interval of a page: its text, where it stands, its three numbers and how many decimals they have."""

    page: Path
    match: re.Match[str]

    @property
    def line(self) -> int:
        """The number of its line."""
        return self.match.string.count("\n", 0, self.match.start()) + 1

    @property
    def section(self) -> str:
        """The text between the headings around it."""
        text, at = self.match.string, self.match.start()
        start, end = text.rfind("\n## ", 0, at), text.find("\n## ", at)
        return text[max(start, 0) : end if end >= 0 else len(text)]

    @property
    def records(self) -> list[Path]:
        """The records that its section links, or else its page."""
        return records(self.section) or records(self.match.string)

    @property
    def decimals(self) -> int:
        """Of the number that is printed most precisely."""
        return max(len(self.match[end].partition(".")[2]) for end in ("mean", "low", "high"))

    def number(self, part: str) -> float:
        """One of ``mean``, ``low`` and ``high``."""
        text = self.match[part].replace(",", "").replace("−", "-").replace("±", "")
        return float(text)

    def is_near(self, part: str, value: float) -> bool:
        """Whether a value is printed as this one is."""
        return abs(value - self.number(part)) <= 0.5001 * 10.0**-self.decimals

    def has_ends(self, low: float, high: float) -> bool:
        """Whether these are its ends."""
        return self.is_near("low", low) and self.is_near("high", high)

    def rewritten(self, low: float, high: float) -> str:
        """The same text with other ends, in the same style."""
        text, start = self.match[0], self.match.start()
        for part, value in (("high", high), ("low", low)):
            a, b = self.match.start(part) - start, self.match.end(part) - start
            text = text[:a] + self._styled(value) + text[b:]
        return text

    def _styled(self, value: float) -> str:
        parts = [self.match[part] for part in ("mean", "low", "high")]
        text = f"{abs(value):,.{self.decimals}f}"
        if text.startswith("0.") and not any(re.match(r"[+−]?0\.", part) for part in parts):
            text = text[1:]
        if not re.search("[1-9]", text):
            return text
        plus = "+" if any(part.startswith("+") for part in parts[1:]) else ""
        return ("−" if value < 0 else plus) + text


def series(path: Path) -> list[Series]:
    """Everything in a record that an interval may be about, with differences taken the other way round as well."""
    record = json.loads(path.read_text("utf-8"))
    return [*_plain(record, path.stem), *_summaries(record, path.stem), *_searches(record, path.stem)]


def _plain(node: Any, where: str) -> Iterator[Series]:
    """Every list of values that stands in a spread."""
    if isinstance(node, list):
        for i, each in enumerate(node):
            name = (
                "/".join(str(each[key]) for key in ("of", "rate", "arm", "name") if key in each)
                if isinstance(each, dict)
                else ""
            )
            yield from _plain(each, f"{where} > {name or i}")
    elif isinstance(node, Mapping):
        values = None if where.rpartition(" > ")[2] in LEFT_OUT else node.get("values")
        if isinstance(values, list) and len(values) > 1 and all(isinstance(value, int | float) for value in values):
            yield Series(where, tuple(values), where.rpartition(" > ")[2] in OUTCOMES)
            if min(values) < 0 or "price" in where or "change" in where or "differences" in where:
                yield Series(f"minus {where}", tuple(-value for value in values))
        for key, value in node.items():
            yield from _plain(value, f"{where} > {key}")


def _summaries(record: Any, where: str) -> Iterator[Series]:
    """Differences between arms, and between two rules in one arm; means over victims, and over two metrics."""
    top = record.get("summary", record) if isinstance(record, dict) else {}
    groups = [top.get("arms", {})]
    if "cells" in top:
        groups.append({cell["name"]: cell["results"] for cell in top["cells"] if cell["results"]})
    for arms in groups:
        if isinstance(record, dict) and "differences" in record:  # as contrastive_figures.py writes it
            arms = {name: {"task": of} for name, of in record["task"].items()}
        if arms and all("task" in arm for arm in arms.values()):
            yield from _arms(arms, where)


def _arms(arms: Mapping[str, Any], where: str) -> Iterator[Series]:
    values = {name: {m: _whole(s) for m, s in arm["task"].items()} for name, arm in arms.items()}
    for name, arm in arms.items():
        values[name] |= dict(_over_victims(arm.get("trials", ())))
    for name, of in values.items():
        for metric, each in of.items():
            if each and metric.startswith("trial"):
                yield Series(f"{where} > {name} > {metric}", each)
            rule = f"{metric.removesuffix(', minmax')}, average"
            if each and metric.endswith(", minmax") and of.get(rule):
                yield _difference(f"{where} > {name} > {metric} less average", each, of[rule])
    for one, other in itertools.permutations(values, 2):
        for metric in (values[one].keys() & values[other].keys()) - OUTCOMES - LEFT_OUT:
            a, b = values[one][metric], values[other][metric]
            if a and b and len(a) == len(b):
                yield _difference(f"{where} > {one} less {other} > {metric}", a, b)


def _over_victims(trials: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The mean over the victims of each attack, by seed."""
    for number in dict.fromkeys(trial["trial"] for trial in trials):
        same = [trial for trial in trials if trial["trial"] == number]
        for metric in same[0]["scores"]:
            columns = [_whole(trial["scores"][metric]) for trial in same]
            if all(columns):
                yield f"trial {number}, {metric}", tuple(np.mean(columns, axis=0).tolist())


def _difference(where: str, ones: Sequence[float], others: Sequence[float]) -> Series:
    return Series(where, tuple(a - b for a, b in zip(ones, others, strict=True)))


def _whole(spread: Any) -> tuple[float, ...]:
    """The values of a spread, if every seed has one."""
    values = (spread.get("values") or ()) if isinstance(spread, Mapping) else ()
    return tuple(values) if len(values) > 1 and None not in values else ()


def _searches(record: Any, where: str) -> Iterator[Series]:
    """What `best_arm_seeds.py` and `best_arm_figures.py` put on record."""
    if not isinstance(record, dict):
        return
    seeds = record.get("seeds")
    if isinstance(seeds, list) and seeds and isinstance(seeds[0], dict):
        for clear in (True, False):
            some = [seed for seed in seeds if (seed["gap"] > seed["four_times_bias"]) == clear]
            for arm in some[0]["arms"]:
                pulls = tuple(seed["arms"][arm]["pulls"] for seed in some)
                yield Series(f"{where} > {arm} > pulls, {'clear' if clear else 'not clear'}", pulls)
                right = sum(seed["arms"][arm]["chose_the_best"] for seed in some)
                yield _share(f"{where} > {arm} > right", int(right), len(some))
    for row in [*record.get("instances", ()), *record.get("gap", ()), *record.get("eps", ())]:
        named = f"{where} > {row['instance']} {row['eps']} {row['lie']} {row['rule']} {row['estimator']}"
        yield _share(f"{named} > correct", round(row["correct"] * row["runs"]), row["runs"])
        if "pulls_deviation" in row:
            mean, n = row["pulls"][0], row["runs"]
            reach = row["pulls_deviation"] / n**0.5 * float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
            yield Known(f"{named} > pulls", (), known=Estimate(mean, mean - reach, mean + reach, n, "student_t"))


def _share(where: str, successes: int, count: int) -> Known:
    found = estimate_share(successes, count)
    return Known(where, (), known=found)


@cache
def on_record(path: Path) -> tuple[Series, ...]:
    """As `series`, read once."""
    return tuple(series(path))


def records(text: str) -> list[Path]:
    """The records that a page, or a part of it, links; all, where it links the folder of them."""
    if re.search(r"\]\((?:docs/)?results/?\)", text):
        return sorted(path for path in RESULTS.glob("*.json") if path != SOURCES)
    return sorted({RESULTS / Path(link).name for link in re.findall(r"\]\((?:docs/)?(results/[\w.-]+\.json)\)", text)})


def intervals(page: Path) -> list[Found]:
    """Every interval of a page."""
    text = page.read_text("utf-8")
    hidden = [match.span() for match in CODE.finditer(text)]
    every = (Found(page, match) for match in INTERVAL.finditer(text))
    return [each for each in every if not any(a <= each.match.start() < b for a, b in hidden)]


def candidates(found: Found) -> list[Series]:
    """The series on record whose mean is printed as that of an interval, the likeliest first."""
    same = [each for path in found.records for each in on_record(path) if found.is_near("mean", each.mean)]
    return sorted(same, key=lambda each: (each.where.startswith("minus "), " less " in each.where, len(each.where)))


def sources() -> dict[str, list[dict[str, str]]]:
    """By page, what is on record of where its intervals come from: their text, and the series, in the order of the page."""
    found: dict[str, list[dict[str, str]]] = json.loads(SOURCES.read_text("utf-8")) if SOURCES.is_file() else {}
    return found


def bind(page: Path, known: Sequence[Mapping[str, str]]) -> tuple[list[dict[str, str]], list[str]]:
    """Find the series of each interval of a page; returns texts with their series, and what is wrong.

    Args:
        page: to be looked at.
        known: what was found before, which stays as long as it is right.
    """
    bound, wrong = list[dict[str, str]](), list[str]()
    before = {each["interval"]: each["of"] for each in known}
    for found in intervals(page):
        text = " ".join(found.match[0].split())
        right = [
            each for each in candidates(found) if each.estimate.has_interval and found.has_ends(*each.estimate[1:3])
        ]
        if not right:
            near = "; ".join(f"{each.where} {each.estimate}" for each in candidates(found)[:4])
            wrong.append(f"{page.name}:{found.line}: {text}: no such interval on record ({near or 'nor such a mean'})")
            continue
        named = [each.where for each in right]
        bound.append({"interval": text, "of": before[text] if before.get(text) in named else named[0]})
    return bound, wrong


def rewrite(page: Path) -> None:
    """Replace the ends that are those of the percentile bootstrap of one series on record."""
    text = page.read_text("utf-8")
    for found in reversed(intervals(page)):
        meant = [each for each in candidates(found) if found.has_ends(*each.former) and each.estimate.has_interval]
        texts = {found.rewritten(*each.estimate[1:3]) for each in meant}
        if len(texts) == 1:
            text = text[: found.match.start()] + texts.pop() + text[found.match.end() :]
        elif texts:
            print(f"{page.name}:{found.line}: several series: {', '.join(sorted(texts))}")
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Check all pages, or rewrite them, and put on record where each interval comes from."""
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    pages = [Path(name).resolve() for name in names] or PAGES
    known, wrong = sources(), list[str]()
    for page in pages:
        if "--rewrite" in sys.argv:
            rewrite(page)
        name = str(page.relative_to(ROOT))
        bound, missing = bind(page, known.get(name, []))
        wrong += missing
        known = {**known, name: bound} if bound else {key: value for key, value in known.items() if key != name}
        print(f"{name}: {len(bound)} intervals from the records, {len(missing)} not")
    SOURCES.write_text(json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
