"""A vertical federation in which nobody misbehaves: what every threat is compared with."""

from __future__ import annotations

from typing import ClassVar

from fedsim.parties.vertical import Vertical


class Baseline(Vertical):
    """Train a vertical federation; attacks and defences can be put on its links all the same."""

    resumes: ClassVar[bool] = True
    misses: ClassVar[bool] = True
