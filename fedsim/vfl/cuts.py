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
    if cuts is None or not schedule.steps:
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


def stage(schedule: Schedule, before: int, role: Lasting, net: Net) -> Iterator[Turn]:
    """The same for one of several stages, which begins after ``before`` training steps and numbers its exchanges by `Net.step`.

    A part is kept after the stage's last step, too: it belongs to this stage. One that was over when a run is taken up, so
    that `Net.done` is beyond its end, is not to be played. Its schedule has one exchange a step, and no evaluations.
    """
    cuts, turns = net.cuts, schedule.turns(max(0, net.done - before))
    if cuts is None:
        return turns
    cuts.take_up(role)

    def watched() -> Iterator[Turn]:
        for turn in turns:
            yield turn
            done = before + turn.index + 1
            if done % cuts.every == 0 or turn.index + 1 == schedule.steps:
                cuts.take(done, net.step, role)

    return watched()


def exchanged(role: Lasting, net: Net) -> None:
    """Keep a part if one is due after this exchange, the `Net.step`-th: for roles whose training steps are exchanges."""
    if net.cuts is not None and net.step % net.cuts.every == 0:
        net.cuts.take(net.step, net.step, role)
