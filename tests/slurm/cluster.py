"""A real Slurm of two nodes on this machine, from Debian's packages, all of its own in one folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
SEARCH_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
START_S = 60
END_S = 30

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
AuthType=auth/munge
# A requeued job starts again only when its credential has run out.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
# The nodes have more cores than this machine.
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0,sched_interval=1,batch_sched_delay=0
KillWait=20
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """Started by `start`, with commands run by `call`; `stop` leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "slurm.conf"
        self.daemons: list[subprocess.Popen] = []
        self.environment = {"PATH": SEARCH_PATH, "SLURM_CONF": str(self.configuration)}

    def start(self) -> None:
        """Bring up munge, the controller and two nodes; RuntimeError with their last words if that fails."""
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(
            host=host, user=getpass.getuser(), folder=self.folder, ports=free_ports(3)
        )
        self.configuration.write_text(text)
        named = {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        munge = [f"--{option}={self.folder}/munge.{suffix}" for option, suffix in named.items()]
        self.daemon("munged", "--foreground", "--force", *munge)
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munge")
        self.daemon("slurmctld", "-D", "-f", str(self.configuration))
        for node in ("n1", "n2"):
            self.daemon("slurmd", "-D", "-N", node, "-f", str(self.configuration))
        self.wait_for(lambda: self.call("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"], "idle nodes")

    def daemon(self, *words: str) -> None:
        # A test run that is killed takes them along.
        guard = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
        with open(self.folder / f"{words[0]}.out", "ab") as output:
            process = subprocess.Popen(
                [*guard, *words],
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.daemons.append(process)

    def wait_for(self, condition, what: str) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            ended = [process.args[0] for process in self.daemons if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                words = "".join(path.read_text()[-1000:] for path in self.folder.glob("*.log"))
                raise RuntimeError(f"{what} did not come; ended: {ended}; logs:\n{words}")
            time.sleep(0.05)

    def call(self, *words: str) -> str:
        """Run a Slurm command and give what it printed (nothing where it failed)."""
        result = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        return result.stdout

    def queue(self) -> list[str]:
        """Lines "TASK STATE" of what is in the queue."""
        return self.call("squeue", "--array", "--noheader", "--format=%i %T").splitlines()

    def stop(self) -> None:
        """End jobs, daemons and whatever else was started under this cluster's configuration."""
        if self.queue():
            self.call("scancel", "--full", f"--user={getpass.getuser()}")
            deadline = time.monotonic() + END_S
            while self.queue() and time.monotonic() < deadline:
                time.sleep(0.1)
        for process in reversed(self.daemons):
            process.terminate()
        for process in self.daemons:
            try:
                process.wait(timeout=END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self.strays():
            os.kill(pid, signal.SIGKILL)

    def strays(self) -> list[int]:
        """Processes that carry this cluster's configuration in their environment, but for this one."""
        marker = f"SLURM_CONF={self.configuration}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if marker in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if not shutil.which(name, path=SEARCH_PATH)]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
