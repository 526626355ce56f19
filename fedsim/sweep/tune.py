"""Many runs at a time as trials of Ray Tune: the one module of a sweep that knows Ray.

Tune places, starts and watches the runs; what they leave behind are ordinary run folders, and what Tune and Ray write for
themselves goes into a temporary folder that is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim import experiment
from fedsim.config import ScenarioFile, validate
from fedsim.distribution import format_install_command
from fedsim.errors import ConfigError
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.runtime import ray
from fedsim.runtime._environment import changed_environment
from fedsim.runtime._leftovers import make_owned_folder
from fedsim.sweep.runs import SweepRun, Tell

if TYPE_CHECKING:
    from ray.tune import Callback

ENVIRONMENT: Mapping[str, str] = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints even where nothing is asked for
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the run folders are the state of a sweep
}
"""What Tune reads."""
QUIET: Mapping[str, str] = {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}
"""The same where Ray may not print: it would tell of each process that died, beside our own line."""
APART = 0.5
"""Seconds between two signs of life of a run, at least."""


def need() -> None:
    """Refuse to begin without Ray.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("ray") is None:
        raise ConfigError(
            f"sweep.pack: needs Ray, which is not installed: {format_install_command('ray')}, or set sweep.pack=false"
        )


@contextlib.contextmanager
def session(cpus: int, verbose: bool = False, gpus: float = 0) -> Iterator[None]:
    """Ray on this machine, quiet and on loopback; one that runs already is used, and left running."""
    settings = ENVIRONMENT if verbose else {**ENVIRONMENT, **QUIET}
    with ray.session(ray.Ray(verbose=verbose, gpus=gpus), cpus, settings):
        yield


def play(runs: Sequence[SweepRun], out: Path, at_once: int, until: float, command: Sequence[str], tell: Tell) -> None:
    """Play runs, ``at_once`` at a time, inside a `session`; one that fails ends only itself.

    Args:
        out: the folder of the sweep.
        until: the time, in seconds since the epoch, after which no run begins.
        command: for the manifests.
        tell: told of each run.
    """
    from ray import tune

    orders = [
        {
            "number": i,
            "name": run.file.name,
            "file": json.dumps(run.file.resolved()),
            "out": str((out / run.folder).resolve()),
            "here": os.getcwd(),
            "command": list(command),
            "until": until,
        }
        for i, run in enumerate(runs)
    ]
    with changed_environment(ENVIRONMENT), _temporary() as folder:
        tune.Tuner(
            tune.with_resources(_play, {"cpu": 1}),
            param_space={"order": tune.grid_search(orders)},
            tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=True),
            run_config=tune.RunConfig(
                name="sweep", storage_path=str(folder), verbose=0, callbacks=[_listener(runs, tell)]
            ),
        ).fit()


def _play(config: Mapping[str, Any]) -> None:
    """One run, in a process of Ray's."""
    from ray import tune

    order = config["order"]
    if time.time() >= order["until"]:
        tune.report({"status": "left out"})
        return

    def started(title: str, arm: ScenarioFile) -> Watch:
        return _SignsOfLife().watch

    try:
        with contextlib.chdir(order["here"]):
            file = validate(json.loads(order["file"]), order["name"], {})
            experiment.run(file, Path(order["out"]), command=order["command"], started=started)
    except Exception as error:  # Tune would print it, and forget it
        tune.report({"status": "failed", "cause": f"{type(error).__name__}: {error}"})
    else:
        tune.report({"status": "complete"})


class _SignsOfLife:
    """Passes on to Tune what a run logs, now and then."""

    def __init__(self) -> None:
        self._told, self._reached = time.monotonic(), dict[str, Any]()

    def watch(self, role: RoleId, row: Mapping[str, Any]) -> None:
        """A `Watch`."""
        from ray import tune

        if "step" in row:
            self._reached |= {"step": row["step"], **({"test": row["test"]} if "test" in row else {})}
        if time.monotonic() - self._told > APART:
            tune.report(dict(self._reached))
            self._told = time.monotonic()


def _listener(runs: Sequence[SweepRun], tell: Tell) -> Callback:
    """Hands what Tune hears on to ``tell``."""
    from ray import tune

    class Listener(tune.Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._tell(trial, {"status": "running"})

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            self._tell(trial, {key: result[key] for key in ("status", "cause", "step", "test") if key in result})

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._tell(trial, {"status": "failed", "cause": "its process ended before the run did"})

        def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[()]]:
            return dict, ()  # Tune stores its callbacks, for a restart that we do not use

        def _tell(self, trial: Any, news: Mapping[str, Any]) -> None:
            tell(runs[trial.config["order"]["number"]], news)

    return Listener()


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    """A folder with a short name, as Ray's sockets need one, until the end."""
    folder = make_owned_folder("fedsim-tune-", 0)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
