"""A program: plays a scenario on a Ray whose machine keeps what its seats own, then on one whose machine shares it.

Its words are the folder to work in and the file with the scenario. It writes every byte that came from the actors.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from fedsim import config
from fedsim.runtime.ray import Ray, session


def main() -> None:
    """Write ``<folder>/<what>.seen`` and ``<folder>/<what>.logs`` for each of the two runs."""
    folder, source = Path(sys.argv[1]), sys.argv[2]
    sharing, file = folder / "sharing.yaml", config.read(source)
    with session(Ray(), 4, {"FEDSIM_SHARING": str(sharing)}):
        import ray

        get, seen = ray.get, bytearray()

        def noting(ref: Any, **more: Any) -> Any:
            found = get(ref, **more)
            seen.extend(found if isinstance(found, bytes) else json.dumps(found).encode())
            return found

        ray.get = noting
        (home,) = Path(tempfile.gettempdir()).glob("fedsim-ray-*")
        for what, more in (("kept", ""), ("shared", "samples: 3\nshare_model: true\nshare_schema: true\n")):
            sharing.write_text(f"runs: {folder}/runs-{what}\n{more}")
            seen.clear()
            shown: list[Any] = []
            reports = Ray().run(file, lambda role, row: shown.append([role, dict(row)]))  # noqa: B023
            (folder / f"{what}.seen").write_bytes(bytes(seen) + json.dumps(shown).encode())
            (folder / f"{what}.json").write_text(json.dumps({each.role: each.withheld for each in reports}))
        logs = [path.read_bytes() for path in home.rglob("*") if path.is_file() and "logs" in path.parts]
        (folder / "logs").write_bytes(b"\n".join(logs))


if __name__ == "__main__":
    main()
