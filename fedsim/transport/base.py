"""The seam between the protocol and the world: one method to send, one to receive."""

from __future__ import annotations

from typing import Protocol

from fedsim.message import RoleId


class Transport(Protocol):
    """Carries frames between this seat and its peers; knows who sent a frame, knows nothing of what is in it.

    Frames of one sender to one receiver arrive once each and in order.
    """

    async def send(self, dst: RoleId, frame: bytes) -> None:
        """Take a frame on its way to ``dst``; returns when this side may send the next one.

        Raises:
            TransportClosed: this side was closed before.
            TransportBroken: the way to ``dst`` is gone.
        """

    async def recv(self, within: float | None = None) -> tuple[RoleId, bytes]:
        """Wait for the next frame from any peer: the verified sender, and the frame.

        With ``within`` it does not wait for more than so many seconds; a transport that knows when every seat waits takes
        that for the end of the time of the one with the least.

        Raises:
            TransportClosed: this side was closed, before or meanwhile.
            TransportBroken: no peer can ever send again, or one was lost without having closed; names it.
            TransportLate: nothing came within that time.
            TransportBusy: another task is receiving already.
            StallError: the transport knows that every seat waits and nothing is on its way.
        """

    async def aclose(self) -> None:
        """Close this side; idempotent. Frames on their way to peers still arrive."""
