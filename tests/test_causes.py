"""Why a process of an engine ended, found in what it printed; each text is what Flower, Ray, rich or Python really print."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.panel import Panel

from fedsim.runtime._causes import MAX_CHARACTERS, SILENCE, find_cause, summarise_error

BOX = """\
╭─ Error ──────────────────────────────────────────────────────────────────────╮
│ Connection to the SuperLink is unavailable. Please check your network        │
│ connection and 'address' in the SuperLink connection configuration.          │
╰──────────────────────────────────────────────────────────────────────────────╯
"""
ASCII_BOX = """\
+- Error ----------------------------------------------------------------------+
| Connection to the SuperLink is unavailable.                                  |
+------------------------------------------------------------------------------+
"""
TRACEBACK = """\
INFO :      Starting Flower SuperLink
Traceback (most recent call last):
  File "/x/superlink.py", line 3, in start
    server.add(
  File "/x/grpc.py", line 9, in add
    raise RuntimeError(
RuntimeError: Failed to bind to address 127.0.0.1:80; set GRPC_VERBOSITY=debug
INFO :      bye
"""
CHAINED = """\
Traceback (most recent call last):
  File "a.py", line 1, in f
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in g
pkg.errors.ConfigError: no such thing
"""
RPC = """\
Traceback (most recent call last):
  File "a.py", line 3, in g
grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC that terminated with:
\tstatus = StatusCode.UNAVAILABLE
\tdetails = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Connection refused"
\tdebug_error_string = "UNKNOWN: {}"
>
"""
REMOTE = """\
\x1b[36mray::_Actor.ready()\x1b[39m (pid=1, ip=10.0.0.1)
  At least one of the input arguments could not be computed:
Traceback (most recent call last):
  File "a.py", line 3, in g
ModuleNotFoundError: No module named 'fedsim'"""
RAYLET = """\
[2026-01-01 10:00:00,000 I 12 12] (raylet) main.cc:226: Setting cluster ID
[2026-01-01 10:00:00,000 C 12 12] (raylet) io.cc:91:  Check failed: socket bind failed: path too long
*** StackTrace Information ***
/x/raylet(+0x1) [0x1] ray::operator<<()
"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (BOX, "Connection to the SuperLink is unavailable. Please check your network connection and 'address'"),
        (f"Loading project configuration...\n{BOX}\n", "Connection to the SuperLink is unavailable."),
        (ASCII_BOX, "Connection to the SuperLink is unavailable."),
        (TRACEBACK, "RuntimeError: Failed to bind to address 127.0.0.1:80"),
        (CHAINED, "pkg.errors.ConfigError: no such thing"),
        (RPC, "grpc._channel._InactiveRpcError: failed to connect to all addresses; last error: UNKNOWN: ipv4:127"),
        (REMOTE, "ModuleNotFoundError: No module named 'fedsim'"),
        (
            RAYLET,
            "[2026-01-01 10:00:00,000 C 12 12] (raylet) io.cc:91: Check failed: socket bind failed: path too long",
        ),
        ("usage: x\nx: error: argument --port: invalid\n", "x: error: argument --port: invalid"),
        ("ERROR :     no certificate\nINFO :      ending\n", "ERROR : no certificate"),
        ("first\nlast one\n-----\n\n", "last one"),
        ("", SILENCE),
        ("───\n \n", SILENCE),
        ("\x1b[31mred\x1b[0m\r\n", "red"),
        ("Traceback (most recent call last):\n  File\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ("Traceback (most recent call last):\n  cut off", "cut off"),
    ],
)
def test_the_cause_is_found(text: str, cause: str) -> None:
    assert find_cause(text).startswith(cause)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_whatever_rich_draws_around_an_error_it_is_read(width: int, encoding: str, tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "log"
    with path.open("w", encoding=encoding) as file:
        Console(file=file, width=width, force_terminal=encoding == "utf-8").print(
            Panel("the port 8000 is taken by another program of this machine", title="Error", title_align="left")
        )
    assert find_cause(path.read_text("utf-8")) == "the port 8000 is taken by another program of this machine"


def test_a_traceback_that_rich_draws_is_read() -> None:
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    try:
        raise ValueError("expected one thing, found another")
    except ValueError:
        console.print_exception()
    console.file.close()
    assert find_cause(console.export_text()) == "ValueError: expected one thing, found another"


def test_what_is_long_is_cut_at_its_end() -> None:
    found = find_cause("word " * 1000)
    assert len(found) <= MAX_CHARACTERS
    assert found.startswith("word word")
    assert found.endswith(" ...")


def test_an_error_is_one_line_even_without_a_text() -> None:
    assert summarise_error(AssertionError()) == "AssertionError"
    assert summarise_error(ValueError("one\n  two")) == "one two"
    assert summarise_error(RuntimeError(REMOTE)) == "ModuleNotFoundError: No module named 'fedsim'"
