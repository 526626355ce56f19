"""Write docker/requirements.txt and docker/cuda.txt: every file that the image installs, by its SHA-256.

``make lock`` calls this after a change of pyproject.toml or constraints.txt; it needs the package index. PyTorch is listed with
its builds for CUDA (of the package index) and for the CPU (of PyTorch's own index): pip takes the one that it is offered.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXTRAS = ("flower", "parquet")
CUDA = re.compile(r"nvidia-|triton==|cuda-")
TORCH_CPU = {
    "2.13.0": {
        "x86_64": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
        "aarch64": "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7",
    }
}
"""By version and machine, the SHA-256 of the wheel for CPUs and Python 3.11 in https://download.pytorch.org/whl/cpu."""
HEAD = """\
# Made by docker/lock.py (make lock) from pyproject.toml and constraints.txt: do not edit.
# {what}
"""


def lock_packages() -> dict[str, str]:
    """Resolve what the image installs, within constraints.txt; by name and version, the line with its hashes."""
    words = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml", "--quiet"]
    words += [word for extra in EXTRAS for word in ("--extra", extra)]
    words += ["--constraint", "constraints.txt", "--generate-hashes", "--python-version", "3.11"]
    words += ["--python-platform", "linux", "--no-annotate", "--no-header"]
    said = subprocess.run(words, cwd=HERE.parent, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
    found = re.findall(r"^(\S+==\S+)( .*(?:\n    .*)*)\n", said, flags=re.MULTILINE)
    return {name: f"{name}{hashes}\n" for name, hashes in found}


def add_cpu_builds(line: str) -> str:
    """Return PyTorch's line with the hashes of its builds for CPUs, too."""
    version = line.partition("==")[2].split()[0]
    if version not in TORCH_CPU:
        raise SystemExit(f"docker/lock.py: put the hashes of torch {version}+cpu into TORCH_CPU")
    return line.rstrip() + "".join(f" \\\n    --hash=sha256:{sha}" for sha in TORCH_CPU[version].values()) + "\n"


def main() -> None:
    """Write both files."""
    locked = lock_packages()
    cuda = {name: line for name, line in locked.items() if CUDA.match(name)}
    rest = {name: add_cpu_builds(line) if name.startswith("torch==") else line for name, line in locked.items()}
    for path, what, lines in (
        ("requirements.txt", "All that the image installs, but the libraries of CUDA.", rest.keys() - cuda.keys()),
        ("cuda.txt", "The libraries that PyTorch's build for CUDA needs.", cuda.keys()),
    ):
        (HERE / path).write_text(HEAD.format(what=what) + "".join(rest[name] for name in sorted(lines)), "utf-8")


if __name__ == "__main__":
    main()
