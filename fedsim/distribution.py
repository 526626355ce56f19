"""The name under which fedsim is installed. It is not the name under which it is imported.

On the package index ``fedsim`` is another project, with the same import name. This module tells what to install instead, and
finds that project where it lies beside this one. It imports nothing else of fedsim, so that ``fedsim_vfl.py`` can run it
before the package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # it takes longer to import than all of the command line's help
    from importlib.metadata import Distribution, PackagePath

DISTRIBUTION = "fedsim-vfl"
"""What pip installs."""
FOREIGN = "fedsim"
"""The other project's name on the package index."""


class Clash(NamedTuple):
    """The other project is installed beside this one.

    Attributes:
        fatal: it replaced files of this one, so that no command can run.
        mixed: its files lie in the folder of this one.
        found: what was found.
        remedy: what to do about it.
    """

    fatal: bool
    mixed: bool
    found: str
    remedy: str


def format_install_command(extra: str = "") -> str:
    """The command that installs fedsim, or fedsim with an extra: ``pip install 'fedsim-vfl[ray]'``."""
    return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"


def read_version() -> str | None:
    """The version that is installed; None in a checkout that is not."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return None


def warn_of_mixed_project() -> None:
    """Print one line if files of the other project lie in the folder of this one; exit with 2 if they replaced some.

    It is called when a command starts, and costs a look into one folder.
    """
    beside = Path(__file__).resolve().parents[1]
    clash = find_foreign_project() if any(beside.glob(f"{FOREIGN}-[0-9]*.dist-info")) else None
    if clash is not None and clash.mixed:
        print(f"fedsim: {clash.found}: {clash.remedy}", file=sys.stderr)
        if clash.fatal:
            sys.exit(2)


def find_foreign_project() -> Clash | None:
    """The other project, wherever on ``sys.path`` it is installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        theirs = distribution(FOREIGN)
    except PackageNotFoundError:
        return None
    files = _files(theirs)
    if not files:  # an editable installation, such as one of this project under its former name
        return None
    found = f"the distribution '{FOREIGN}' {theirs.version}, another project with the same import name"
    if not Path(__file__).with_name("__init__.py").samefile(_locate(files["fedsim/__init__.py"])):
        remedy = f"pip uninstall {FOREIGN}: whichever stands first on sys.path is imported"
        return Clash(False, False, f"{found}, is installed at {theirs.locate_file('fedsim')}", remedy)
    remedy = f"pip uninstall -y {FOREIGN} {DISTRIBUTION}, then {format_install_command()}"
    replaced = _replaced(files)
    if replaced:
        return Clash(True, True, f"{found}, has replaced {', '.join(replaced)}", remedy)
    return Clash(False, True, f"{found}, is installed into the same folder", remedy)


def _files(of: Distribution) -> dict[str, PackagePath]:
    """The files of a distribution within the package ``fedsim``; nothing if they do not lie there."""
    found = {str(file): file for file in of.files or () if file.parts[0] == "fedsim" and _locate(file).is_file()}
    return found if "fedsim/__init__.py" in found else {}


def _replaced(theirs: dict[str, PackagePath]) -> list[str]:
    """The files of this project that are not as it installed them and have the name of one of the other project's."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        ours = _files(distribution(DISTRIBUTION))
    except PackageNotFoundError:
        return []
    return [name for name, file in ours.items() if name in theirs and not _is_intact(file)]


def _is_intact(file: PackagePath) -> bool:
    import base64
    import hashlib

    if file.hash is None:
        return True
    digest = hashlib.new(file.hash.mode, _locate(file).read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value


def _locate(file: PackagePath) -> Path:
    return Path(str(file.locate()))
