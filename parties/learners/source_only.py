"""No adaptation: the labelled domain alone."""

from __future__ import annotations

from torch import Tensor

from fedsim.parties.learners import Batch, Bench, Learner, LearnerConfig


class SourceOnly(LearnerConfig):
    """Empirical risk on the source: what every other learner is compared with. Target rows have no part in it."""

    def build(self, bench: Bench) -> Learner:
        """See `LearnerConfig.build`."""
        return _SourceOnly(bench)


class _SourceOnly(Learner):
    def learn(self, batch: Batch) -> Tensor:
        """The labelling loss; the gradient of target rows is zero."""
        return self.descend(self.labelling_loss(batch, [self.head]), batch, [self.head])
