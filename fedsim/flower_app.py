"""fedsim as a Flower app: what a SuperLink starts as its ServerApp, and a SuperNode as its ClientApp.

Run settings: ``scenario`` (a file, or one that ships), ``profile``, ``set`` (overrides; ``;`` is between two, ``;;`` is one in
a value), ``out`` (the run folder, where the ServerApp runs), ``resume`` (go on with the run that lies there, if it did not come
to its end), ``listen`` (the data port), ``advertise`` (the host under which parties reach it), ``wait`` (seconds in which they
must have joined), ``transport`` (``stream``, or ``flower`` for Flower's messages); and the hub's own ``data`` (its table, or
the folder of its data sets), ``secret`` and ``ids_key`` (files); ``simulate`` (play the hub without a secret: its
noise follows from the seed).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedsim import config, experiment
from fedsim.message import RoleId
from fedsim.net import Watch
from fedsim.override import split_overrides
from fedsim.printable import print_text
from fedsim.report.replacing import find_unfinished
from fedsim.runtime import flower
from fedsim.runtime._seat import describe_simulated

server = ServerApp()
client = ClientApp()


@server.main()
def lead(grid: Grid, context: Context) -> None:
    """Play the hub of every arm; the parties are played by the grid's nodes."""
    settings = context.run_config
    if "arm" in settings:
        flower.lead(grid, str(settings["arm"]))
        return
    file = _file(settings)
    hub = next(iter(file.arms().values())).plan().hub
    own = flower.find_hub_belongings(settings, grid)
    file, secrets = own.at(file, hub)
    if own.simulate and settings["simulate"]:
        print(describe_simulated(hub), file=sys.stderr, flush=True)
    with flower.conducting(grid, secrets):
        out = _out(settings)
        if settings["resume"] and out is not None and find_unfinished(out):
            print_text(f"run folder: {experiment.resume(out, started=_telling, pages=False)}")
        else:
            print_text(f"run folder: {experiment.run(file, out, started=_telling, pages=False)}")


@client.query("session")
def follow(message: Message, context: Context) -> Message:
    """Play a party from the first frame to the last."""
    reply: Message = flower.follow(message, context.node_config)
    return reply


@client.query("post")
def answer(message: Message, context: Context) -> Message:
    """Play a party as far as its mail goes, where frames travel as messages."""
    reply: Message = flower.answer(message, context.node_config, context.state)
    return reply


def _telling(title: str, file: config.ScenarioFile) -> Watch:
    """Put what is for people into the log of the run, such as who was lost and from where all go on."""

    def watch(role: RoleId, row: Mapping[str, Any]) -> None:
        if "notice" in row:
            print_text(row["notice"])

    return watch


def _file(settings: Any) -> config.ScenarioFile:
    source = str(settings["scenario"])
    own = Path(__file__).parents[1] / source  # as the app carries it; a ServerApp works in another folder
    runtime = {"kind": "flower", **{name: settings[name] for name in ("listen", "advertise", "wait", "transport")}}
    overrides = split_overrides(str(settings["set"]))
    file = config.read(str(own) if own.is_file() else source, overrides, str(settings["profile"]))
    return config.validate({**file.resolved(), "runtime": runtime}, source, {})


def _out(settings: Any) -> Path | None:
    return Path(str(settings["out"])) if settings["out"] else None
