"""What does distance cost? ``python benchmarks/round_trip.py`` (as root, on Linux)

A server and two parties on hosts of their own, network namespaces that are made and removed, play the same training twice:
joined by a bridge, and by a switch that delays each frame by 25 ms, so that a round trip takes 50 ms longer. A step is one
round trip, so it should cost that and no second wait. Milliseconds a step are taken between a long run and a short one, which
leaves out the start. A bare echo of as many bytes over TCP stands beside it: what a round trip really took. Messages are of
1 KiB, which TCP sends as one segment, and of 4 KiB, three segments: where the kernel paces them (``sysctl
net.ipv4.tcp_congestion_control``: bbr) that alone takes milliseconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "containers"))

from hosts import Host, Lab, hosts

DELAY = 25.0
"""Milliseconds each way."""
SEATS = ("server", "north", "east")
SCENARIO = {
    "scenario": {
        "kind": "baseline",
        "data": {"kind": "synthetic", "count": 2000, "features": 40, "informative": 20, "test": 200},
        "parties": {"north": {"columns": "0:20"}, "east": {"columns": "20:40"}},
        "embedding": 16,
        "steps": 1,
        "evaluate": 1_000_000,
    }
}

BATCHES, ROW, ECHOES = (16, 64), 16 * 4, 41
"""Rows of a message, bytes of each, and how many messages are echoed."""
LISTENS = f"""
import socket, sys
size = int(sys.argv[1])
connection, _ = socket.create_server(("0.0.0.0", 6999)).accept()
for _ in range({ECHOES}):
    connection.sendall(connection.recv(size, socket.MSG_WAITALL))
"""
ASKS = f"""
import socket, statistics, sys, time
while True:
    try:
        connection = socket.create_connection((sys.argv[1], 6999))
        break
    except OSError:
        time.sleep(0.05)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
size = int(sys.argv[2])
took = []
for _ in range({ECHOES}):
    start = time.perf_counter()
    connection.sendall(bytes(size))
    connection.recv(size, socket.MSG_WAITALL)
    took.append(time.perf_counter() - start)
print(1000 * statistics.median(took))
"""


def echo(lab: Lab, size: int) -> float:
    """Milliseconds of a bare round trip of so many bytes to the far address of the server."""
    with subprocess.Popen(lab.command("server", sys.executable, "-c", LISTENS, str(size))):
        asks = lab.command("north", sys.executable, "-c", ASKS, lab.far("server"), str(size))
        return float(subprocess.run(asks, capture_output=True, text=True, check=True).stdout)


def seconds(lab: Lab, processes: dict[str, Host], folder: Path, far: bool, batch: int, steps: int) -> float:
    """How long the hub was at a run of so many steps."""
    port = 7000 + steps + batch
    address = f"{lab.far('server') if far else lab.near('server')}:{port}"
    running = {}
    for role in reversed(SEATS):
        way = "--listen" if role == "server" else "--connect"
        shown = [word for name in ("ca", "cert", "key") for word in (f"--{name}", f"keys/{role}/{name}.pem")]
        shown += ["--token-file", f"keys/{role}/token", "--out", f"{port}/{role}", "--set", f"scenario.steps={steps}"]
        shown += ["--set", f"scenario.batch={batch}"]
        running[role] = processes[role].start("seat", "s.yaml", "--role", role, way, address, "--simulate", *shown)
    for role, each in running.items():
        if (end := each.wait()).code:
            raise SystemExit(f"{role}: {end.said}")
    return float(json.loads((folder / str(port) / "server" / "summary.json").read_text())["seconds"])


def measure(lab: Lab, processes: dict[str, Host], folder: Path, batch: int) -> None:
    """Steps and an echo with messages of so many rows, on the bridge and far away."""
    found = {}
    for far, short, long in ((False, 500, 2500), (True, 50, 350)):
        few, many = (seconds(lab, processes, folder, far, batch, steps) for steps in (short, long))
        found[far] = 1000 * (many - few) / (long - short)
    bare = echo(lab, size := batch * ROW)
    print(f"messages of {size} bytes")
    print(f"  a step on a bridge                {found[False]:6.2f} ms")
    print(f"  a step with {2 * DELAY:g} ms of round trip   {found[True]:6.2f} ms")
    print(f"  a bare echo there                 {bare:6.2f} ms")
    for what, trip in ((f"{2 * DELAY:g} ms", 2 * DELAY), ("the echo", bare)):
        expected = trip + found[False]
        fits = "yes" if found[True] <= 1.1 * expected else "NO"
        print(f"  {what} plus the step on a bridge: {expected:.2f} ms; within 10 %: {fits}")


def main() -> None:
    from fedsim import config
    from fedsim.cli.seating import write_keys

    folder = Path(tempfile.mkdtemp())
    (folder / "s.yaml").write_text(json.dumps(SCENARIO))
    with Lab(SEATS) as lab, hosts(lab, folder) as processes:
        lab.join()
        lab.delay(DELAY)
        write_keys(config.read(str(folder / "s.yaml")), [lab.near("server"), lab.far("server")], 1, folder / "keys")
        for batch in BATCHES:
            measure(lab, processes, folder, batch)


if __name__ == "__main__":
    main()
