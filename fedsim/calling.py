"""How a function that plays a scenario file can be called: with the file in any form, also from inside an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from os import PathLike, fspath
from typing import Any, Concatenate, ParamSpec, TypeVar

from fedsim import config
from fedsim.config import ScenarioFile
from fedsim.mistakes import Places

P = ParamSpec("P")
R = TypeVar("R")
Source = ScenarioFile | str | PathLike[str] | Mapping[str, Any]
"""A scenario file, its path, the name of one that ships with fedsim, or its values."""
UNNAMED = "scenario"
"""What a run of plain values is called that do not name it."""


def load_scenario(source: Source) -> ScenarioFile:
    """Return a scenario file, whatever form it comes in.

    Raises:
        InputError: it cannot be read, or is wrong.
    """
    if isinstance(source, ScenarioFile):
        return source
    if isinstance(source, str | PathLike):
        return config.read(fspath(source))
    file = config.validate({"name": UNNAMED, **source}, UNNAMED, {})
    file.check(Places(UNNAMED))
    return file


def accept_any_source(play: Callable[Concatenate[ScenarioFile, P], R]) -> Callable[Concatenate[Source, P], R]:
    """Let a function that takes a `ScenarioFile` first take any `Source`.

    Where an event loop runs in this thread already (a notebook cell), the function gets a thread of its own, because it makes
    a loop itself; the call blocks as it does elsewhere.
    """

    @wraps(play)
    def call(file: Source, *args: P.args, **kwargs: P.kwargs) -> R:
        work = partial(play, load_scenario(file), *args, **kwargs)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return work()
        with ThreadPoolExecutor(1, thread_name_prefix="fedsim") as pool:
            return pool.submit(work).result()

    return call  # type: ignore[return-value]  # its first argument has a name, too
