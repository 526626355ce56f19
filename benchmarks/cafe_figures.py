"""CAFE's claims beside the truth: ``python benchmarks/cafe_figures.py paper|batches|rounds [options]``; ``--help`` lists them.

An attack never sees the truth, so a run's report can say how good the rows are, but not how far off the representations h
were on the way. Here an examiner who holds both looks at the attack while it works, in scenarios that are played in full:

* ``paper``: `scenarios/leakage_paper.yaml`: the relative error of H over all rows, step III on the first ``--images`` of each
  party, seconds of collecting rounds, of steps I and II, and of step III.
* ``batches``: batches of 10 to N at N = 160 (five seeds) and N = 800 (one), T = 1.25 N rounds: the relative error of H, and
  for batches of N the PSNR that is left.
* ``rounds``: N = 160, batches of 40, five seeds: the PSNR against the number of rounds, with a figure; step III
  without restarts.

Writes ``docs/results/NAME.json`` (and ``.png``) with command, machine and date.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.experiment import build
from fedsim.metrics import psnr
from fedsim.parties.features import FeatureParty
from fedsim.report.manifest import begin
from fedsim.report.seeds import spread
from fedsim.runtime.local import memory, play_all
from fedsim.scenarios.attacks._disclosed import first_linear, layers_before
from fedsim.scenarios.attacks._recover import equations, exact, recover
from fedsim.scenarios.attacks._stream import Round, Stream
from fedsim.scenarios.attacks.cafe import Cafe, Seen
from fedsim.seeding import Rng
from fedsim.threat import Attack, Claim, Knowledge, Tell

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SMALL = ["scenario.bottom={kind: cafe_cnn, channels: [16, 32], units: 96}", "scenario.embedding=32"]
"""The demo's network: the identities behind steps I and II do not depend on the width, and rounds come ten times as fast."""
FOUND: dict[str, dict[str, Any]] = {}


class Examined(Cafe):
    """CAFE under the eyes of somebody who knows the truth."""

    parties: ClassVar[dict[str, FeatureParty]] = {}
    victim: str = ""
    images: int = 0
    upto: tuple[int, ...] = ()

    def attack(self) -> Attack[Any]:
        """See `AttackConfig.attack`."""
        plain = super().attack()
        if not self.upto:
            return Attack(plain.init, plain.observe, self._examined)

        def init(knowledge: Knowledge, rng: Rng) -> tuple[Seen, tuple[Round, ...]]:
            return plain.init(knowledge, rng), ()

        def observe(message: Any, state: tuple[Seen, tuple[Round, ...]]) -> tuple[Seen, tuple[Round, ...]]:
            after = plain.observe(message, state[0])
            last = after.stretches.last
            new = (last,) if last is not None and last is not state[0].stretches.last else ()
            return after, (*state[1], *new)

        return Attack(init, observe, self._prefixes)

    def _examined(self, state: Seen, tell: Tell) -> Claim:
        start = time.perf_counter()
        regime, stream, model = state.stretches.best()
        found = recover(equations(stream.settled()), exact)
        solved = time.perf_counter()
        truth, features = self._truth(), self.parties[self.victim].bottom.features["train"]
        h = torch.zeros_like(truth)
        h[found.rows] = found.h
        off = (h - truth).norm(dim=1) / truth.norm(dim=1)
        FOUND[self.victim] = {
            "regime": regime,
            "rounds": len(stream),
            "rank": found.rank,
            "rows without gradient": found.dead,
            "H relative error": float((h - truth).norm() / truth.norm()),
            "H relative error, worst row": float(off.max()),
            "seconds, steps I and II": solved - start,
        }
        some = found.rows[: self.images]
        if not len(some):
            return Claim(about="features", rows=found.rows[:1], values=torch.zeros_like(features[:1]))
        values, notes = self._rows(state.link, model, found.h[: len(some)], tell)
        levels = psnr(features[some], values.clamp(0, 1))
        uncapped = psnr(features[some], values.clamp(0, 1), cap=1e9)
        FOUND[self.victim] |= {
            "seconds, step III": time.perf_counter() - solved,
            "PSNR": levels.tolist(),
            "PSNR, median of the uncapped": float(uncapped.median()),
            "MSE": (features[some] - values.clamp(0, 1)).double().pow(2).flatten(1).mean(1).tolist(),
            "mean image": psnr(features, features.mean(dim=0, keepdim=True).expand_as(features)).mean().item(),
            **notes,
        }
        return Claim(about="features", rows=some, values=values)

    def _prefixes(self, state: tuple[Seen, tuple[Round, ...]], tell: Tell) -> Claim:
        """What the first T rounds give, for every T asked for."""
        seen, rounds = state
        features, truth = self.parties[self.victim].bottom.features["train"], self._truth()
        found: dict[str, dict[str, float]] = {}
        for nth, count in enumerate(self.upto):
            stream = Stream(len(features), self.directions)
            for each in rounds[:count]:
                stream = stream.add(each)
            solved = recover(equations(stream.settled()), exact)
            h = torch.zeros_like(truth)
            h[solved.rows] = solved.h
            values, _ = self._rows(seen.link, seen.stretches.model, h, lambda done: None)
            found[str(count)] = {
                "rank": solved.rank,
                "H relative error": float((h - truth).norm() / truth.norm()),
                "PSNR": float(psnr(features, values.clamp(0, 1)).mean()),
            }
            tell((nth + 1) / len(self.upto))
        mean = psnr(features, features.mean(dim=0, keepdim=True).expand_as(features)).mean().item()
        FOUND[self.victim] = {"rounds": found, "mean image": mean}
        return Claim(about="features", rows=torch.arange(1), values=torch.zeros_like(features[:1]))

    def _truth(self) -> Tensor:
        """The true representations, (N, d1) float64."""
        bottom = self.parties[self.victim].bottom
        network = bottom.network.module.eval()
        assert isinstance(network, torch.nn.Sequential)
        with torch.no_grad():
            before = layers_before(network, first_linear(network, "cafe")[0])
            return torch.cat([before(part) for part in bottom.features["train"].split(100)]).double()


def examine(file: ScenarioFile, victims: Iterable[str] = (), **settings: Any) -> dict[str, Any]:
    """Play a file with one trial of ``cafe`` under examination; what was found, by victim, and the seconds of all rounds."""
    roles = build(file, file.name, file)
    Examined.parties = {name: role for name, role in roles.items() if isinstance(role, FeatureParty)}
    plan = file.plan()
    aims = [aim for aim in plan.aims if aim.victim in (tuple(victims) or plan.roster)]
    attack = {k: v for k, v in aims[0].attack.model_dump().items() if k != "kind"} | settings
    examined = tuple(replace(aim, attack=Examined(**attack, victim=aim.victim)) for aim in aims)
    FOUND.clear()
    start = time.perf_counter()
    first: list[float] = []

    def watch(role: str, row: Mapping[str, Any]) -> None:
        if "claim" in row and not first:
            first.append(time.perf_counter() - start)

    asyncio.run(play_all(file, memory(plan), watch, replace(plan, aims=examined)))
    return {"seconds, rounds": first[0], "victims": dict(FOUND)}


def paper(options: argparse.Namespace) -> dict[str, Any]:
    """The size of the paper, one profile."""
    file = config.read("leakage_paper", options.set, options.profile)
    found = examine(file, images=options.images)
    levels = [level for each in found["victims"].values() for level in each.get("PSNR", ())]
    if levels:
        found["PSNR, mean"] = sum(levels) / len(levels)
        found["share above 30 dB"] = sum(level > 30 for level in levels) / len(levels)
        parts = torch.tensor([each["MSE"] for each in found["victims"].values()])
        whole = (-10 * parts.mean(dim=0).clamp_min(1e-30).log10()).clamp(max=60)  # quarters of one size
        found |= {
            "whole images, PSNR, mean": float(whole.mean()),
            "whole images above 30 dB": float((whole > 30).double().mean()),
        }
    return found


def batches(options: argparse.Namespace) -> dict[str, Any]:
    """The error of H against the size of the batch; the whole data set as one batch fails."""
    found: dict[str, Any] = {}
    for n, sizes, seeds in ((160, (10, 40, 80, 100), range(7, 12)), (800, (10, 40, 80, 100, 160), range(7, 8))):
        rounds = n * 5 // 4
        for size in (*sizes, n):
            images = min(n, 160) if size == n else 0
            runs = [_small(options, n, size, rounds, seed, images=images) for seed in seeds]
            key = f"N {n}, batch {size}"
            worst = max(each["H relative error"] for run in runs for each in run["victims"].values())
            found[key] = {"seeds": len(seeds), "H relative error, worst": worst}
            if images:
                means = [_mean(v["PSNR"] for v in run["victims"].values()) for run in runs]
                blind = _mean([v["mean image"]] for run in runs for v in run["victims"].values())
                found[key] |= {"PSNR": spread(means), "mean image": blind}
            print(key, found[key], flush=True)
    return found


def rounds(options: argparse.Namespace) -> dict[str, Any]:
    """The PSNR against the number of rounds, with a figure."""
    n = 160
    counts = tuple(
        round(n * share) for share in (0.25, 0.5, 0.75, 0.875, 0.9375, 0.975, 0.99375, 1, 1.025, 1.125, 1.25)
    )
    runs = []
    for seed in range(7, 12):
        runs.append(_small(options, n, 40, counts[-1], seed, upto=counts, restarts=0)["victims"])
        print(seed, {k: round(v["PSNR"], 1) for k, v in next(iter(runs[-1].values()))["rounds"].items()}, flush=True)
    levels = {t: [_mean([v["rounds"][str(t)]["PSNR"]] for v in run.values()) for run in runs] for t in counts}
    errors = {
        t: [_mean([v["rounds"][str(t)]["H relative error"]] for v in run.values()) for run in runs] for t in counts
    }
    mean = _mean([v["mean image"]] for run in runs for v in run.values())
    found = {str(t): {"PSNR": spread(levels[t]), "H relative error, mean": sum(errors[t]) / len(runs)} for t in counts}
    _draw(n, levels, mean)
    return {"N": n, "batch": 40, "seeds": 5, "mean image": mean, "by rounds": found}


def _small(options: argparse.Namespace, n: int, batch: int, count: int, seed: int, **settings: Any) -> dict[str, Any]:
    change = [f"seed={seed}", f"scenario.data.rows={n}", f"scenario.batch={batch}", f"scenario.steps={count}"]
    change += [f"scenario.evaluate={count}", f"scenario.window={{from: 0, rounds: {count}}}", *SMALL, *options.set]
    return examine(config.read("leakage_paper", change), **settings)


def _mean(groups: Iterable[Iterable[float]]) -> float:
    values = [value for group in groups for value in group]
    return sum(values) / len(values)


def _draw(n: int, levels: Mapping[int, list[float]], mean: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    stated = {t: spread(values) for t, values in levels.items()}
    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot(list(stated), [each["mean"] for each in stated.values()], "o-", color="#1f5fa8", label="CAFE")
    ends = [[each[end] for each in stated.values()] for end in ("low", "high")]
    axes.fill_between(list(stated), *ends, alpha=0.25)
    axes.axhline(mean, color="#777", linestyle="--", label="mean image")
    axes.axvline(n, color="#c33", linewidth=1, label=f"T = N = {n}")
    axes.set(xlabel="rounds T in which the model stood still", ylabel="PSNR (dB)")
    axes.legend(frameon=False)
    figure.savefig(RESULTS / "cafe-rounds.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["paper", "batches", "rounds"])
    parser.add_argument("--profile", default="mnist", help="of leakage_paper")
    parser.add_argument("--images", type=int, default=800, help="of each party, for step III")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as of fedsim run")
    options = parser.parse_args()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    found = {"paper": paper, "batches": batches, "rounds": rounds}[options.what](options)
    about = begin(config.read("leakage_paper"), [])
    name = f"cafe-{options.what}" + (f"-{options.profile}" if options.what == "paper" else "")
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "started": started,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": about["cpu"]["model"],
        "platform": platform.platform(),
        "versions": about["versions"],
        "found": found,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(_brief(found), indent=1))


def _brief(found: Any) -> Any:
    """Without the long lists."""
    if isinstance(found, dict):
        return {key: _brief(value) for key, value in found.items()}
    return f"{len(found)} numbers" if isinstance(found, list) and len(found) > 5 else found


if __name__ == "__main__":
    main()
