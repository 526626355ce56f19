"""Rows of seats in Ray actors: none is lost when an answer comes late, and each seat's stay in order."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest
from small import small

from fedsim.runtime._crew import Crew
from fedsim.runtime._ray_log import SeatLog

pytestmark = pytest.mark.usefixtures("ray_session")

ROWS = 50


def test_no_row_is_lost_where_answers_come_late() -> None:
    """The actor answers as slowly as one on a machine that is busy with others: each time after the caller's patience."""
    import ray

    class Slow:
        def __init__(self) -> None:
            self._rows = deque(range(ROWS))

        def rows(self) -> str:
            import time

            time.sleep(0.05)
            return json.dumps([{"n": self._rows.popleft()}] if self._rows else [])

    shown: list[Mapping[str, Any]] = []
    actor = ray.remote(Slow).options(num_cpus=0).remote()
    try:
        log = SeatLog({"north": actor}, Crew(small("baseline"), lambda role, row: shown.append(row)), ray)
        while len(shown) < ROWS - 1:
            log.show(0.0)
        log.finish("north")
        log.show(0.0)
    finally:
        ray.kill(actor)
    assert [row["n"] for row in shown][: ROWS - 1] == list(range(ROWS - 1))
    assert [row["n"] for row in shown] == list(range(len(shown)))
