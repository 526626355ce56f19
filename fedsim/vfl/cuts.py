"""The turns of a run that can be taken up again."""

from __future__ import annotations

from collections.abc import Iterator

from fedsim.net import Net
from fedsim.state import Lasting
from fedsim.vfl.schedule import Schedule, Turn


def played(schedule: Schedule, role: Lasting, net: Net) -> Iterator[Turn]:
    """The turns from where the run stands, with ``role`` as it was then; parts of checkpoints are kept when they are due.

    A turn is over at this seat when the next one is asked for. A part is kept after every `Cuts.every`-th training step and
    after the last, once all exchanges of the step are over.
    """
    cuts = net.cuts
    if cuts is None:
        return schedule.turns(net.step)
    cuts.take_up(role)

    def watched() -> Iterator[Turn]:
        turns = schedule.turns(net.step)
        turn = next(turns, None)
        while turn is not None:
            yield turn
            after = next(turns, None)
            done = turn.index + 1
            ends = turn.purpose == "train" and (after is None or after.index != turn.index)
            if ends and (done % cuts.every == 0 or done == schedule.steps):
                cuts.take(done, turn.step + 1, role)
            turn = after

    return watched()
