"""What run folders are written with: JSON, text and tensors, each file in one step."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fedsim.config import ScenarioFile
from fedsim.engines import hide_engine_addresses
from fedsim.errors import OutputError, restore_text
from fedsim.files import PRIVATE, SHARED, atomic_write, write_files
from fedsim.printable import HARMFUL, is_printable
from fedsim.report.summary import finite

FOLDER = "folder: "
"""How the line of ``scenario.yaml`` begins that says where the data lies; no page shows it."""


@contextlib.contextmanager
def reporting_failures(path: Path) -> Iterator[None]:
    """Turn what the system says about a path that cannot be written, such as a full disk, into one line for the user."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def scenario_text(file: ScenarioFile) -> str:
    """The resolved file as YAML that reads back to the same digest, without the address of an engine.

    The folder of its data, if any, stands in a line of its own.
    """
    head = " ".join(f"# {file.name}, resolved: every default is written out".split()) + "\n"  # a name is one line here
    values = hide_engine_addresses(file.resolved())
    folder = values.pop("folder")
    last = f"{FOLDER}{json.dumps(folder)}\n" if folder else ""
    shown = is_printable(json.dumps(values, ensure_ascii=False))  # else every character beyond ASCII is spelled out
    return head + yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=shown, width=110) + last


def json_bytes(value: Any) -> bytes:
    """Plain values as indented JSON; a number that is not finite becomes null."""
    return (_readable(json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False)) + "\n").encode()


def json_line(row: Mapping[str, Any]) -> str:
    """A row of ``metrics.jsonl``."""
    return _readable(json.dumps(finite(row), ensure_ascii=False, allow_nan=False)) + "\n"


def _readable(text: str) -> str:
    """JSON of the same values that does nothing to a terminal: what would is written as JSON writes control characters."""
    return HARMFUL.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text)


def write_json(root: Path, name: str, value: Any, sync: bool = True) -> None:
    """Write plain values as `json_bytes` gives them below a run folder, in one step; folders are made as needed."""
    write_files(root, {name: json_bytes(value)}, sync=sync)


def write_text(root: Path, name: str, text: str, sync: bool = True) -> None:
    """Write a file below a run folder so that a reader finds the old one or the new one, whole; folders are made as needed."""
    write_files(root, {name: restore_text(text).encode()}, sync=sync)  # a path that is no UTF-8 may stand in it


def write_named(path: Path, content: bytes, runs: Sequence[Path]) -> None:
    """Write a file that the user has named, in one step; its folder must exist.

    Args:
        path: the file.
        content: everything that it will hold.
        runs: run folders; in one of these the file is for this user only, elsewhere as the umask says.
    """
    own = {
        place for run in runs for place in (run.resolve(), *run.resolve().parents[:2])
    }  # a run of seeds, or of a sweep
    around = [place for place in own if (place / "manifest.json").is_file()]
    inside = any(path.parent.resolve().is_relative_to(place) for place in around)
    atomic_write(path, content, PRIVATE if inside else SHARED)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Dumper(yaml.SafeDumper):
    """Writes each value out, and quotes what our loader would take for a number: the text ``1e-3``."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
