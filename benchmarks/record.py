"""Put a run's numbers on record: ``python benchmarks/record.py RUN NAME`` writes ``docs/results/NAME.json``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path


def main() -> None:
    """Command, machine, date and versions from the manifest; all numbers from the summary."""
    run, name = Path(sys.argv[1]), sys.argv[2]
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    command = ["fedsim", *manifest["command"][1:]]
    if "--out" in command:  # where it lay is nobody's concern
        at = command.index("--out")
        del command[at : at + 2]
    kept = {key: manifest[key] for key in ("started", "ended", "versions", "platform", "threads", "digest")}
    record = {
        "command": shlex.join(command),
        "cpu": manifest["cpu"]["model"],
        **kept,
        "summary": json.loads((run / "summary.json").read_text("utf-8")),
    }
    out = Path(__file__).parent.parent / "docs" / "results" / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
