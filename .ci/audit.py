"""Look up every pinned dependency in the advisory database of the package index.

Ends with 1 if a version has a known vulnerability that `EXPLAINED` does not explain. Where the database cannot be reached, or
knows none of the packages (a mirror need not have it), it says so loudly and ends with 0: nothing has been looked at then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXPLAINED: dict[str, str] = {}
"""By advisory, why it does not concern fedsim. An entry goes when the version is raised."""
PINNED = Path(__file__).parent.parent / "constraints.txt"
COMMAND = (
    sys.executable,
    "-m",
    "pip_audit",
    "--no-deps",
    "--disable-pip",
    "--format",
    "json",
    "--progress-spinner",
    "off",
)
TIMEOUT_S = 300


def main() -> int:
    """Print what was found; the exit code."""
    try:
        done = subprocess.run([*COMMAND, "-r", str(PINNED)], capture_output=True, text=True, timeout=TIMEOUT_S)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return give_up(f"no answer within {TIMEOUT_S} s")
    except (ValueError, KeyError):
        return give_up(done.stderr.strip().rpartition("\n")[2])
    audited = [each for each in found if "vulns" in each]
    if not audited:
        return give_up(f"the database knows none of the {len(found)} packages")
    unexplained = 0
    for package in audited:
        for hole in package["vulns"]:
            names = {hole["id"], *hole.get("aliases", ())}
            reason = next((EXPLAINED[name] for name in sorted(names) if name in EXPLAINED), "")
            unexplained += not reason
            fixed = ", ".join(hole.get("fix_versions", ())) or "none"
            print(
                f"{package['name']} {package['version']}: {hole['id']}; fixed in: {fixed}; {reason or 'NOT EXPLAINED'}"
            )
    skipped = [each["name"] for each in found if "vulns" not in each]
    print(
        f"audit: {len(audited)} packages, {unexplained} unexplained; not in the database: {', '.join(skipped) or 'none'}"
    )
    return 1 if unexplained else 0


def give_up(why: str) -> int:
    """Say that nothing was audited."""
    print(f"audit: NOT DONE, the advisory database cannot be had here: {why}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
