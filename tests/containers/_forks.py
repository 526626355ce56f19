"""What a `Host` runs: fedsim is imported once, and each command is played in a fork of this process, a line of JSON each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import hostile
import torch  # noqa: F401 (imported once, here, and not in each fork)

from fedsim import cli, config, experiment  # noqa: F401
from fedsim.transport import _packets, grpc
from fedsim.transport.tls import Identity

HEADS = {
    "4 GiB frame": _packets.HEAD.pack(0, (4 << 30) // _packets.PART, len(b"server")) + b"server",
    "4 GiB header": _packets.head_of(0, "server", b"") + b"fsim\1\0" + b"\xff" * 4 + b"0123456789",
}


def main() -> None:
    """Start what is asked for and say how it has ended, until there are no more orders; then kill what is left."""
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            running.add(pid := os.fork())
            if not pid:
                _play(order)
            print(json.dumps(pid), flush=True)
        elif "pid" in order:
            print(json.dumps(os.getpid()), flush=True)
        else:
            done, status = os.waitpid(order["wait"], os.WNOHANG)
            running.discard(done)
            print(json.dumps(os.waitstatus_to_exitcode(status) if done else None), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _play(order: dict[str, Any]) -> None:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.environ.update(order["environment"])
    words, code = order["start"], 99
    try:
        if words[0] == "hostile":
            asyncio.run(_attack(*words[1:]))
        if words[0] == "loris":
            asyncio.run(hostile.loris(words[1]))
            sys.exit(0)
        sys.argv = ["fedsim", *words]
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _attack(head: str, role: str, hub: str, address: str, digest: str, folder: str) -> None:
    """Join as a seat that has every right to, then send what no seat sends."""
    keys = Path(folder)
    identity = Identity.read(keys / "ca.pem", keys / "cert.pem", keys / "key.pem")
    shows = grpc.Pass((keys / "token").read_text().strip(), digest)
    spoke = await grpc.Spoke.connect(role, hub, address, shows, 60, identity)
    await spoke._call.write(HEADS[head])
    try:
        await spoke.recv()
    except Exception as error:
        print(error)
    sys.exit(0)


if __name__ == "__main__":
    main()
