"""The contract of a defence: it explains itself, and its stage is a stage."""

from __future__ import annotations

from fedsim.testing.expect import check_metadata
from fedsim.testing.stages import check_stage
from fedsim.threat import Defence


def check_defence(config: Defence) -> None:
    """Check a defence with these settings: its documentation, and its stage by `check_stage`.

    Raises:
        ConformanceError: says which part of the contract is broken.
    """
    check_metadata(config)
    check_stage(config.stage)
