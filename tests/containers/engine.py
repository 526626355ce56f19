"""A container engine to test with: is there one, and may it be used?"""

from __future__ import annotations

import shutil
import subprocess


def why_no_engine() -> str:
    """Why containers cannot be run here, or nothing."""
    for program in ("docker", "docker-compose"):
        if shutil.which(program) is None:
            return f"no {program}"
    said = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    return "" if said.returncode == 0 else f"no container engine: {said.stderr.strip()}"
