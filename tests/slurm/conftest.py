"""A Slurm on this machine, started by hand and as root: munged, slurmctld and two slurmd in a folder of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import HANGING, wait_until

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "setpriv")
PARTITION = "cpu"  # as in config/parsl/slurm/cpu.yaml
NODES = ("node0", "node1")  # both are this machine
NUM_CORES = 4  # of each node, whatever the machine has

CONF = """\
ClusterName=lambda-hat
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=20
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
{nodes}
PartitionName={partition} Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """What the tests ask of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=HANGING).stdout.strip()

    def jobs(self) -> list[str]:
        """Numbers of jobs that wait, run or end."""
        return self.ask("squeue", "--noheader", "--format=%i").split()

    def restarts(self, job: str) -> int:
        """How often a job was put back into the queue."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        (number,) = (word.removeprefix("Restarts=") for word in words if word.startswith("Restarts="))
        return int(number)

    def preempt(self, job: str, *, sending: str) -> None:
        """Tell all processes of a job that it ends, then put it back into the queue, as for a more urgent one."""
        self.ask("scancel", "--full", f"--signal={sending}", job)
        self.ask("scontrol", "requeue", job)

    def wait_for(self, is_so: Callable[[], object]) -> None:
        wait_until(is_so, self.logs)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("*.log")))


def reason_against() -> str | None:
    """Why there can be no Slurm on this machine."""
    if sys.platform != "linux":
        return "Slurm runs on Linux only"
    if os.geteuid() != 0:
        return "starting slurmctld and slurmd by hand needs root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_conf(folder: Path) -> Path:
    host = socket.gethostname().split(".")[0]
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={NUM_CORES}" for node in NODES
    ]
    conf = folder / "slurm.conf"
    conf.write_text(
        CONF.format(folder=folder, host=host, ctld_port=free_port(), nodes="\n".join(lines), partition=PARTITION)
    )
    return conf


def start_munge(folder: Path) -> None:
    """munged refuses folders that others can write to, and to be root."""
    folder.mkdir()
    key, files = folder / "key", folder / "munge"
    subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
    shutil.chown(folder, "munge", "munge")
    shutil.chown(key, "munge", "munge")
    folder.chmod(0o755)
    subprocess.run(
        [
            *("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged"),
            *(f"--key-file={key}", f"--socket={folder}/socket", f"--pid-file={files}.pid"),
            *(f"--log-file={files}.log", f"--seed-file={files}.seed"),
        ],
        check=True,
    )


def end(pid_file: Path) -> None:
    """End what wrote the file, and what it started."""
    with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int(pid_file.read_text()))
        processes = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=10)
        for left in alive:
            left.kill()


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A running Slurm that nothing else uses; its `SLURM_CONF` is in the environment."""
    if reason := reason_against():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="lambda-hat-slurm-"))  # not pytest's, which other users cannot enter
    folder.chmod(0o755)
    for name in ("state", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    conf = write_conf(folder)
    running = Slurm(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        try:
            start_munge(folder / "munge")
            for daemon in (["slurmctld"], *(["slurmd", "-N", node] for node in NODES)):
                subprocess.run([*daemon, "-f", str(conf)], check=True, timeout=HANGING)
            running.wait_for(lambda: running.ask("sinfo", "--noheader", "--format=%D %T") == f"{len(NODES)} idle")
            yield running
        finally:
            with suppress(Exception):
                running.ask("scancel", f"--partition={PARTITION}")
                running.wait_for(lambda: not running.jobs())
            for name in (*NODES, "slurmctld", "munge/munge"):
                end(folder / f"{name}.pid")
            shutil.rmtree(folder, ignore_errors=True)
