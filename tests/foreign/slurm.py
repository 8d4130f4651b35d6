"""A Slurm of two nodes on this machine, for as long as a test takes: a controller and two daemons of the user's own."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "srun", "scontrol", "sinfo")
CONFIG = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
NodeName={names[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 State=UNKNOWN
NodeName={names[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 State=UNKNOWN
PartitionName=all Nodes={names[0]},{names[1]} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return the programs of Slurm that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextlib.contextmanager
def cluster(place: Path) -> Iterator[Path]:
    """Start the cluster in an empty folder, and give its file for `SLURM_CONF`; it ends with the context."""
    host = socket.gethostname().partition(".")[0]
    names = ("node0", "node1")  # none may be called as the machine is
    for folder in ("state", *(f"spool-{name}" for name in names)):
        (place / folder).mkdir()
    config = place / "slurm.conf"
    facts = {"host": host, "user": getpass.getuser(), "place": place, "ports": free_ports(3), "names": names}
    config.write_text(CONFIG.format(**facts), encoding="utf-8")
    started = [subprocess.Popen(["slurmctld", "-D", "-f", str(config)])]
    try:
        started += [subprocess.Popen(["slurmd", "-D", "-N", name, "-f", str(config)]) for name in names]
        wait_for_nodes(config)
        yield config
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for_nodes(config: Path, seconds: float = 60) -> None:
    """Return when both nodes are idle."""
    until, said = time.monotonic() + seconds, ""
    while time.monotonic() < until:
        asked = ["sinfo", "--noheader", "--Node", "--format", "%T"]
        own = {**os.environ, "SLURM_CONF": str(config)}
        told = subprocess.run(asked, env=own, capture_output=True, text=True, check=False)
        said = told.stdout + told.stderr
        if told.stdout.split() == ["idle", "idle"]:
            return
        time.sleep(0.5)
    raise RuntimeError(f"the nodes are not idle after {seconds:g} s: {said}")
