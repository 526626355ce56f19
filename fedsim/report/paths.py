"""Keep the absolute paths of a user out of pages: they are made to be shared, and a path names a person and a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from markupsafe import escape

from fedsim.report.reading import Run

ABSOLUTE = re.compile(
    r"(?<![\w./\\~<>+])/(?:[^\s/'\"`<>:;,|(){}\[\]]+/)+[^\s/'\"`<>:;,|(){}\[\]]*"
    r"|(?<!\w)(?:[A-Za-z]:[\\/]|\\\\)(?:[^\s\\/'\"`<>:;,|(){}\[\]]+[\\/])*[^\s\\/'\"`<>:;,|(){}\[\]]*"
)
"""An absolute path of two parts or more in running text; one with a space in it is found by `PathFilter.known`."""


class PathFilter:
    """Shortens absolute paths: inside a run folder to what lies in it, elsewhere to the name of the file.

    Attributes:
        known: absolute paths that the runs themselves name, longest first.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._folders = [Path(run.path).absolute() for run in runs]
        found = {str(folder) for folder in self._folders} | {str(folder.resolve()) for folder in self._folders}
        for run in runs:
            found |= set(_absolute(run.scenario)) | set(_absolute(run.manifest.get("command", [])))
        self.known = sorted(found, key=len, reverse=True)

    def short(self, path: str) -> str:
        """One path as a page shows it; a relative one stays."""
        if not is_absolute(path):
            return path
        for folder in self._folders:
            if PurePosixPath(path).is_relative_to(folder.as_posix()):
                return PurePosixPath(path).relative_to(folder.parent.as_posix()).as_posix()
        return _name(path)

    def hide(self, text: str) -> str:
        """Running text without absolute paths."""
        for path in self.known:
            text = text.replace(path, self.short(path))
        return ABSOLUTE.sub(lambda found: self.short(found[0]), text)

    def finish(self, html: str) -> str:
        """A page without the paths that the runs name, wherever they stand in it."""
        for path in self.known:
            for written in dict.fromkeys((str(escape(path)), path)):
                html = html.replace(written, str(escape(self.short(path))))
        return html

    def scenario(self, run: Run) -> str:
        """The resolved scenario file, with the names of files in place of absolute paths."""
        if not any(_absolute(run.scenario)):
            return self.hide(run.scenario_text)
        head = "# paths are shortened to the names of their files\n"
        plain = self._shortened(run.scenario)
        return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110)

    def _shortened(self, node: Any) -> Any:
        if isinstance(node, Mapping):
            return {self._shortened(key): self._shortened(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [self._shortened(value) for value in node]
        return self.short(node) if isinstance(node, str) else node


def is_absolute(path: str) -> bool:
    """Whether a text is an absolute path, of this system or of another one."""
    windows = PureWindowsPath(path)
    return len(path) > 1 and (PurePosixPath(path).is_absolute() or bool(windows.drive and windows.root))


def _absolute(node: Any) -> Iterator[str]:
    """Every absolute path among the texts of plain values; also behind ``name=``, as on a command line."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _absolute(key)
            yield from _absolute(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _absolute(value)
    elif isinstance(node, str):
        yield from (part for part in {node, node.rpartition("=")[2]} if is_absolute(part))


def _name(path: str) -> str:
    windows = PureWindowsPath(path)
    name = windows.name if windows.drive else PurePosixPath(path).name
    return name or "/"
