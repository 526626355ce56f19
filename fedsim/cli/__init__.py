"""The command line. What a command needs is imported when it runs, so that help comes at once."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer

from fedsim.cli.streams import (
    check_current_folder,
    end_quietly,
    explain_machine_error,
    prepare_streams,
    use_utf8_for_files,
)
from fedsim.errors import FedsimError, InputError
from fedsim.printable import print_text

app = typer.Typer(
    name="fedsim",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

data_app = typer.Typer(no_args_is_help=False)
app.add_typer(data_app, name="data")

UsageError: type[typer.BadParameter] = typer.BadParameter.__bases__[0]
"""Whatever is wrong with a command line. From 0.26 on typer has a click of its own, which gives this class no public name."""
SAID_TWICE = re.compile(r"(Did you mean [^?]*\?)(?: \1)+")
"""Typer and its click each guess at what was meant."""
INTERRUPTED = 130
"""The exit code after Ctrl-C; typer turns the exception into it."""


def complete_scenario(incomplete: str) -> list[str]:
    """Complete the name of a shipped scenario; the shell completes files where nothing matches."""
    from importlib.util import find_spec

    spec = find_spec("fedsim.scenarios")
    folders = spec.submodule_search_locations if spec is not None else None
    names = {path.stem for folder in folders or () for path in Path(folder).glob("*.yaml")}
    return sorted(name for name in names if name.startswith(incomplete))


Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME", help="a scenario file, or one that ships with fedsim", autocompletion=complete_scenario
    ),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 (typer)
    typer.Option("--set", metavar="PATH=VALUE", help="override a setting, such as scenario.batch=20; repeatable"),
]
Profile = Annotated[str, typer.Option(metavar="NAME", help="a variant that the file offers under 'profiles'")]
Verbose = Annotated[bool, typer.Option("--verbose", help="let through what engines and the processes of seats print")]
Force = Annotated[
    bool, typer.Option("--force", help="remove an earlier run there at once; default: when the new one is complete")
]
Secret = Annotated[
    str, typer.Option(metavar="FILE", help="known to this seat alone: its noise and first weights follow from it")
]
IdsKey = Annotated[
    str, typer.Option(metavar="FILE", help="what ids of tables are hashed with; every seat needs the same")
]
Simulate = Annotated[
    bool, typer.Option("--simulate", help="without secrets of seats: whoever has the file can subtract their noise")
]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]


def print_version(wanted: bool) -> None:
    """Print the version and end, where it is asked for."""
    if wanted:
        from fedsim import __version__

        print_text(f"fedsim {__version__}")
        raise typer.Exit


@app.callback()
def begin(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="print the version and exit")
    ] = False,
) -> None:
    """Vertical federated learning, and a security testbed for it: who can learn what from the gradients?"""


@app.command()
def run(
    source: Source,
    runtime: Annotated[str, typer.Option(metavar="KIND", help="where seats run; fedsim list runtimes")] = "",
    profile: Profile = "",
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="play N seeds, from the file's own upward")] = 1,
    out: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="DIR", help="the run folder; default runs/<name>-<digest8>"),
    ] = None,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Play a scenario; end with a result table and an HTML report."""
    from fedsim import config, experiment
    from fedsim.cli.progress import Progress
    from fedsim.cli.tables import print_results

    file = config.read(source, overrides or [], profile, _known(runtime))
    if verbose:
        file = file.model_copy(update={"runtime": file.runtime.model_copy(update={"verbose": True})})
    with Progress() as progress, _notes():
        if seeds == 1:
            path = experiment.run(file, out, command=sys.argv, started=progress.arm, replace=force)
        else:
            path = experiment.run_seeds(file, seeds, out, command=sys.argv, started=progress.arm, replace=force)
    print_results(path)


@app.command()
def resume(
    folder: Folder,
    runtime: Annotated[str, typer.Option(metavar="KIND", help="where seats run from now on; default: as before")] = "",
    verbose: Verbose = False,
) -> None:
    """Go on with a run that has not come to its end, from its last checkpoint; over seeds, with each of its runs."""
    from fedsim import experiment
    from fedsim.cli.progress import Progress
    from fedsim.cli.tables import print_results

    with Progress() as progress, _notes():
        path = experiment.resume(folder, _known(runtime), verbose=verbose, started=progress.arm)
    print_results(path)


@app.command()
def sweep(
    source: Source,
    profile: Profile = "",
    overrides: Overrides = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(
            metavar="DIR", help="where all runs go; default runs/<name>-<digest8>-sweep; the same again goes on"
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Play the variants of a scenario under its 'sweep:', many at once; end with one table and one report."""
    from fedsim import config
    from fedsim.cli.sweeping import Board, print_sweep
    from fedsim.sweep.play import sweep as play

    with Board() as board:
        file = config.read(source, overrides or [], profile)
        path = play(file, out, command=sys.argv, begun=board.begun, verbose=verbose)
    print_sweep(path)


@app.command()
def seat(
    source: Source,
    role: Annotated[str, typer.Option(metavar="ROLE", help="which seat; fedsim check FILE names them, the hub first")],
    connect: Annotated[str, typer.Option(metavar="HOST:PORT", help="where the hub listens")] = "",
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="for the hub's seat: where to listen")] = "",
    arm: Annotated[str, typer.Option(metavar="NAME", help="which arm, if the file has several")] = "",
    token_file: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="FILE", help="holds this seat's token; default: the environment variable FEDSIM_TOKEN"),
    ] = None,
    ca: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="FILE", help="encrypt: the certificate of the authority that every seat trusts"),
    ] = None,
    cert: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="FILE", help="this seat's certificate, in its name"),
    ] = None,
    key: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="FILE", help="the private key of that certificate"),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="without certificates, allow other machines: all can be read on the way")
    ] = False,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="how long to wait for the others")] = 60,
    data: Annotated[str, typer.Option(metavar="PATH", help="this seat's data file, or a folder to look for it")] = "",
    secret: Secret = "",
    simulate: Simulate = False,
    ids_key: IdsKey = "",
    profile: Profile = "",
    overrides: Overrides = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="DIR", help="this seat's run folder; default runs/<name>-<digest8>-<role>"),
    ] = None,
    force: Force = False,
) -> None:
    """Play one seat by hand; the others are played elsewhere, with the same file; fedsim keys makes what they show."""
    from fedsim import config
    from fedsim.cli.seating import play
    from fedsim.runtime._seat import Belongings

    file, own = config.read(source, overrides or [], profile), Belongings(data, secret, ids_key, simulate=simulate)
    path = play(file, arm, role, connect, listen, token_file, (ca, cert, key), wait, own, out, force, plain)
    print_text(f"run folder: {path}")


@app.command()
def keys(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where to write; a folder a seat, for nobody else to see")],
    host: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer)
        typer.Option(
            metavar="NAME", help="under which seats reach the hub, a name or address; repeatable; default: localhost"
        ),
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, metavar="N", help="how long the certificates hold")] = 7,
    profile: Profile = "",
    overrides: Overrides = None,
) -> None:
    """Make what the seats of a run need: for each a certificate, its key, a token and a secret of its own."""
    from fedsim import config
    from fedsim.cli.seating import write_keys

    file = config.read(source, overrides or [], profile)
    print_text(f"keys: {write_keys(file, host or ['localhost', '127.0.0.1'], days, out)}")
    if not host:
        print_text("seats reach the hub at localhost with these; for other machines: --host NAME")


@app.command()
def compose(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where to write: a compose file, and a folder a seat")],
    host: Annotated[
        Optional[str],  # noqa: UP045 (typer)
        typer.Option(metavar="NAME", help="for several machines: where parties reach the hub's; default: one machine"),
    ] = None,
    image: Annotated[str, typer.Option(metavar="NAME", help="as docker build -t has named it")] = "fedsim",
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="in which every party must have joined")] = 300,
    days: Annotated[float, typer.Option(min=0.01, metavar="N", help="how long the SuperLink's certificate holds")] = 30,
    simulate: Simulate = False,
    profile: Profile = "",
    overrides: Overrides = None,
) -> None:
    """Write what it takes to play a scenario in containers: a compose file, certificates, keys, and each seat's settings."""
    from fedsim.cli.composing import write_containers

    print_text(write_containers(source, overrides or [], profile, host, image, wait, days, simulate, out))


@app.command()
def doctor(
    cert: Annotated[
        Optional[list[Path]],  # noqa: UP045 (typer)
        typer.Option(metavar="FILE", help="a certificate to look at as well; repeatable"),
    ] = None,
) -> None:
    """Look at what runs need of this machine: versions, ports, clock, disk, GPU, Docker, certificates; say what to do."""
    from fedsim.cli.examining import diagnose

    if not diagnose(cert or []):
        raise typer.Exit(1)


def _known(runtime: str) -> str:
    """What ``--runtime`` says; ConfigError if there is no such kind."""
    from fedsim.config import Runtime
    from fedsim.errors import ConfigError
    from fedsim.plugins import find

    try:
        return find("runtimes", runtime, Runtime).kind() if runtime else ""
    except ConfigError as error:
        raise ConfigError(f"--runtime: {error}") from error


@data_app.callback(invoke_without_command=True)
def data(context: typer.Context) -> None:
    """List the data sets that shipped scenarios use: origin, licence, size, who needs them, and whether they are here."""
    if context.invoked_subcommand is None:
        from fedsim.cli.datasets import print_datasets

        print_datasets()


@data_app.command(name="fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="as `fedsim data` lists them")],
    to: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="FOLDER", help="where to put the file; default $FEDSIM_DATA, or else the current folder"),
    ] = None,
    given: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option("--from", metavar="FOLDER", help="make it from files that you have downloaded; no network"),
    ] = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="keep another edition than that which results were recorded with")
    ] = False,
) -> None:
    """Download data sets from their original sites, check them, and make the files that scenarios ask for."""
    from fedsim.cli.datasets import fetch_datasets

    fetch_datasets(names, to, given, accept_changes)


@app.command(name="list")
def list_(
    group: Annotated[str, typer.Argument(help="attacks | defences | scenarios | data | models | ...")] = "",
) -> None:
    """What can be named in a scenario file."""
    from fedsim.cli.catalogue import print_kinds

    print_kinds(group)


@app.command()
def show(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="as in fedsim list; or file, links, trials")],
) -> None:
    """What a kind is, its paper, its settings with types and defaults, what knowledge it needs."""
    from fedsim.cli.catalogue import print_kind

    print_kind(kind)


@app.command()
def check(source: Source, profile: Profile = "", overrides: Overrides = None) -> None:
    """Validate a scenario file and show its plan without training; or check a plugin, given its .py file."""
    if source.endswith(".py"):
        from fedsim.testing import check_plugin

        for line in check_plugin(Path(source)):
            print_text(line)
        return
    from fedsim.cli.checking import print_plan

    print_plan(source, overrides or [], profile)


@app.command()
def predict(
    folder: Folder,
    rows: Annotated[
        str, typer.Argument(metavar="DATA", help="a file with the columns of all parties; labels are not needed")
    ] = "",
    data: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer)
        typer.Option("--data", metavar="SEAT=FILE", help="the new rows of one seat, in a file of its own; repeatable"),
    ] = None,
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer)
        typer.Option(
            "--set", metavar="PATH=VALUE", help="how new files are written: scenario.data.decimal=,; repeatable"
        ),
    ] = None,
    parts: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer)
        typer.Option("--part", metavar="SEAT=RUN", help="a seat's own run folder, where its model stayed; repeatable"),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="FILE", help="a CSV; default: print"),
    ] = None,
    spreadsheet: Annotated[
        bool, typer.Option("--spreadsheet", help="put ' before labels and ids that a spreadsheet would run as formulas")
    ] = False,
) -> None:
    """The trained federation (of several arms, the first) on new rows: a class and the probability of each class."""
    from fedsim.cli.predicting import write_predictions

    write_predictions(folder, rows, data or [], overrides or [], out, parts or [], spreadsheet)


@app.command()
def card(
    folder: Folder,
    arm: Annotated[str, typer.Option(metavar="NAME", help="which arm; default: the first")] = "",
    by: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer)
        typer.Option(metavar="COLUMN", help="a column that tells groups of people apart; repeatable"),
    ] = None,
    runtime: Annotated[str, typer.Option(metavar="KIND", help="where seats are played; default: as in the run")] = "",
    training: Annotated[bool, typer.Option(help="train with wrong labels as well")] = True,
) -> None:
    """A model card of a trained federation: scores, fairness, what parties are worth, what it bears, what leaks."""
    from fedsim import carding
    from fedsim.cli.progress import Progress

    kind = _known(runtime)
    with Progress() as progress:
        paths = carding.write(folder, arm=arm, by=by or [], runtime=kind, training=training, started=progress.arm)
    for path in paths:
        print_text(f"card: {path}")


@app.command()
def diff(one: Folder, other: Folder) -> None:
    """How two runs differ: settings, scores, weights to the bit, traffic."""
    from fedsim.report.diff import diff as compare
    from fedsim.report.reading import read

    for line in compare(read(one), read(other)).lines():
        print_text(line)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders; several are compared")],
    out: Annotated[
        Optional[Path],  # noqa: UP045 (typer)
        typer.Option(metavar="FILE", help="default: report.html or comparison.html in the first folder"),
    ] = None,
    own: Annotated[
        bool,
        typer.Option("--own", help="the page of a seat's own run folder: its rows, and what attacks rebuilt of them"),
    ] = False,
) -> None:
    """Make the HTML report of a run again, or one that compares several."""
    from fedsim.report import page, reading, seat_page, sweep_page

    if own:
        print_text(f"report: {seat_page.write(folders, out)}")
        return
    alone = len(folders) == 1 and reading.is_sweep(folders[0])
    print_text(f"report: {sweep_page.write(folders[0], out) if alone else page.write(folders, out)}")


def main() -> NoReturn:
    """The entry point. Exit codes: 2 what the user can mend, 1 what went wrong in a run, 130 interrupted; one line each."""
    signal.signal(signal.SIGTERM, _interrupt)
    use_utf8_for_files()
    prepare_streams()
    try:
        check_current_folder()
        code = app(sys.argv[1:] or ["--help"], prog_name="fedsim", standalone_mode=False)
        sys.stdout.flush()
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "fedsim"
        message = SAID_TWICE.sub(r"\1", error.format_message())
        _fail(f"{message} (see {command} --help)", 2)
    except InputError as error:
        _fail(error, 2)
    except FedsimError as error:
        _fail(error, 1)
    except BrokenPipeError:
        end_quietly()
        sys.exit(1)
    except OSError as error:
        if not (line := explain_machine_error(error)):
            raise
        _fail(line, 2)
    if code == INTERRUPTED:
        print_text("fedsim: interrupted", err=True)
    sys.exit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """After Ctrl-C, say how to go on if there is a way."""
    try:
        yield
    except KeyboardInterrupt as error:
        for note in getattr(error, "__notes__", ())[-1:]:  # the last is that of the outermost run
            print_text(f"fedsim: {note}", err=True)
        raise


def _interrupt(number: int, frame: object) -> None:
    """Take what a container that stops sends for Ctrl-C, even where that is ignored, as in the background of a script."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _fail(error: FedsimError | str, code: int) -> NoReturn:
    notes = getattr(error, "__notes__", ())[-1:]  # the last is that of the outermost run
    with contextlib.suppress(OSError):  # the exit code is left where standard error leads nowhere
        print_text(f"fedsim: {'; '.join([str(error), *notes])}", err=True)
    sys.exit(code)
