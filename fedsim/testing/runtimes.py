"""The contract of a runtime: wherever it puts the seats, the numbers stay the same."""

from __future__ import annotations

import json

from fedsim.config import Runtime, ScenarioFile
from fedsim.outcome import Finding, SeatReport
from fedsim.runtime.local import Local
from fedsim.state import digest
from fedsim.testing.expect import check_metadata, expect, no_errors


def check_runtime(config: Runtime, file: ScenarioFile) -> None:
    """Play one arm of ``file`` here and by the local runtime: equal weights, rows, traffic and scores, to the bit.

    Raises:
        ConformanceError: says at which seat what differs.
    """
    check_metadata(config)
    kind = config.kind()
    with no_errors(f"{kind}: playing {file.name or 'a scenario'}"):
        here = config.run(file, lambda role, row: None)
    there = Local().run(file, lambda role, row: None)
    roles = [report.role for report in there]
    found = [report.role for report in here]
    expect(found == roles, f"{kind}: reports of {', '.join(found)}; the roster is {', '.join(roles)}")
    for mine, theirs in zip(here, there, strict=True):
        _check_equal(mine, theirs, f"{kind}, seat {mine.role}")


def _check_equal(mine: SeatReport, theirs: SeatReport, where: str) -> None:
    expect(digest(mine.tensors) == digest(theirs.tensors), f"{where}: other weights than on one event loop")
    expect(mine.rows == theirs.rows, f"{where}: other metrics than on one event loop")
    expect(mine.traffic == theirs.traffic, f"{where}: other traffic than on one event loop")
    expect(mine.sidecar == theirs.sidecar, f"{where}: another sidecar than on one event loop")
    expect(digest(mine.exhibits) == digest(theirs.exhibits), f"{where}: other exhibits than on one event loop")
    expect(mine.stages == theirs.stages, f"{where}: other numbers of stages than on one event loop")
    figures = [json.dumps(list(each.figures)) for each in (mine, theirs)]  # in Python NaN is not NaN
    expect(figures[0] == figures[1], f"{where}: other figures than on one event loop")
    found, expected = list(map(_found, mine.findings)), list(map(_found, theirs.findings))
    expect(found == expected, f"{where}: other findings than on one event loop")


def _found(finding: Finding) -> tuple[object, ...]:
    """All of a finding but the seconds it took."""
    claim, verdict = finding.claim, finding.verdict
    values = digest({"rows": claim.rows, "values": claim.values})
    return finding.aim, values, dict(claim.notes), verdict.scores, verdict.chance, finding.saw, finding.used
