"""The command ``fedsim``.

It stands outside the package: where another project's package of the same import name is found instead, or has replaced
files of this one, nothing of the package may work, and something has to say why.
"""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Run a command, unless another project's package is in its place. The exit code is 2 then, after one line."""
    package = Path(__file__).with_name("fedsim")
    spec = find_spec("fedsim")
    if spec is None or spec.origin is None or not Path(spec.origin).samefile(package / "__init__.py"):
        found = "nothing" if spec is None else spec.origin or "a folder without __init__.py"
        print(
            f"fedsim: 'import fedsim' finds {found} instead of {package}; rename it, or mend PYTHONPATH",
            file=sys.stderr,
        )
        sys.exit(2)
    runpy.run_path(str(package / "distribution.py"))["warn_of_mixed_project"]()
    from fedsim.cli import main as run_command

    run_command()
