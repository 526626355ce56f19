"""A party that answers no more."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fedsim.errors import ThreatModelError
from fedsim.parties.arms.party import Candidate
from fedsim.parties.features import FeatureParty
from fedsim.parties.wrappers._around import Around, Told
from fedsim.role import Role
from fedsim.seeding import Rng
from fedsim.threat import Wrapper


class Silent(Wrapper):
    """A candidate that is there and trains, but stops answering pulls."""

    resumes: ClassVar[bool] = True

    after: int = Field(0, ge=0, description="blocks of pulls that it still answers; the pilot is the first")

    def wrap(self, role: Role, rng: Rng) -> Role:
        """See `Wrapper.wrap`."""
        return Around(role, self._begin)

    def _begin(self, role: Role) -> Told:
        if not isinstance(role, FeatureParty) or not isinstance(role.epilogue, Candidate):
            raise ThreatModelError("silent: expected a candidate of best_arm, found a seat that answers no pulls")
        role.epilogue.answers = self.after
        return lambda: {"kind": self.kind(), "numbers": {"blocks_answered": self.after}, "changes": []}
