"""Whether an environment and a card can run a study, and what to mend where they cannot."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement

from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.card import AnyCard, KubernetesCard, LocalCard, PBSCard, SlurmCard
from lambda_hat.config.load import LoadedStudy
from lambda_hat.errors import ConfigError, ExecutionError
from lambda_hat.execution.resources import capacity
from lambda_hat.tasks import probe_task
from lambda_hat.workflows.plan import check_execution

__all__ = ["Check", "examine"]

MIN_FREE_GIB = 2.0
LARGEST_ERRORS = {"float64": 1e-15, "float32": 1e-6}
_PROBE_JAX = "import jax; print(jax.__version__, *(d.device_kind for d in jax.devices()), sep=', ')"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def examine(loaded: LoadedStudy, *, with_workers: bool, timeout: float) -> Iterator[Check]:
    """Every check of this machine, this environment and the card, cheap ones first, and last the card's own workers.

    Raises:
        ConfigError: card and study do not fit together.
    """
    if faults := check_execution(loaded):
        raise ConfigError(faults)
    yield from _check_packages()
    yield _check_scripts()
    yield _check_jax()
    yield _check_cores(loaded.card)
    yield _check_port()
    yield from _check_scheduler(loaded.card)
    root = Paths.from_store(loaded.study.store).root
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield from _check_folder(root)
        if with_workers:
            yield from _check_workers(loaded.card, root, timeout)
    finally:
        for folder in made:
            with suppress(OSError):  # it was never made, or somebody else uses it by now
                folder.rmdir()


def _check_packages() -> Iterator[Check]:
    python = ".".join(map(str, sys.version_info[:3]))
    try:
        lines = importlib.metadata.requires("lambda-hat") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "package", "warning", "lambda-hat is not installed, only imported", "`pip install -e .` in its folder"
        )
        return
    wrong = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version or 'missing'}, needs {requirement.specifier or 'any'}")
    if wrong:
        yield Check("packages", "failed", "; ".join(wrong), "Install the project again: `pip install -e .`.")
    else:
        yield Check("packages", "ok", f"Python {python}, {len(lines)} requirements")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_scripts() -> Check:
    scripts = sysconfig.get_path("scripts")
    python = shutil.which("python")
    if python is None or Path(python).parent.resolve() != Path(scripts).resolve():
        advice = "Activate the environment; workers on this machine get its PATH all the same, those elsewhere do not."
        return Check("PATH", "warning", f"`python` is {python or 'nowhere'}, the environment's is in {scripts}", advice)
    return Check("PATH", "ok", scripts)


def _check_jax() -> Check:
    # In a process of its own: Parsl forks, and a process with JAX in it must not.
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE_JAX], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return Check(
            "JAX", "failed", "does not come up within 120 s", "A device may be hanging: try JAX_PLATFORMS=cpu."
        )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Check("JAX", "failed", reason[0], "Install JAX for this machine, or set JAX_PLATFORMS=cpu.")
    return Check("JAX", "ok", done.stdout.strip())


def _check_cores(card: AnyCard) -> Check:
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = capacity(card)
    listed = ", ".join(f"{label} {number}" for label, number in workers.items())
    if isinstance(card, LocalCard):
        wanted = sum(workers[pool.label] * pool.cores_per_worker for pool in card.executors if not pool.accelerators)
        if wanted > max(num_cores, len(card.executors)):
            advice = "Lower `max_workers`, or leave it `auto`: more workers than cores finish fewer trials."
            return Check("cores", "warning", f"{wanted:g} for workers ({listed}), this machine has {num_cores}", advice)
    return Check("cores", "ok", f"{num_cores} here; workers: {listed}")


def _check_folder(root: Path) -> Iterator[Check]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="doctor-", dir=root) as folder:
            (Path(folder) / "file").write_bytes(b"x")
            lock = _lock_works(Path(folder))
    except OSError as error:
        yield Check(
            "folder", "failed", f"{root}: {error.strerror}", "Set `store.root` to a folder that can be written."
        )
        return
    yield Check("folder", "ok", str(root))
    if not lock:
        yield Check(
            "locks", "failed", f"files in {root} cannot be locked", "Put `store.root` on a file system with locks."
        )
    free = shutil.disk_usage(root).free / 2**30
    state = "ok" if free >= MIN_FREE_GIB else "warning"
    yield Check("disk", state, f"{free:.1f} GiB free", "" if state == "ok" else "Make room: a full disk ends a run.")


def _lock_works(folder: Path) -> bool:
    from filelock import FileLock

    first, second = FileLock(folder / "lock", timeout=0), FileLock(folder / "lock", timeout=0)
    try:
        with first:
            try:
                second.acquire()
            except TimeoutError:
                return True
    except (OSError, NotImplementedError):
        return False
    second.release()
    return False


def _check_port() -> Check:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError as error:
        return Check("loopback", "failed", f"no port at 127.0.0.1: {error.strerror}", "Local workers need one.")
    return Check("loopback", "ok", "127.0.0.1")


def _check_scheduler(card: AnyCard) -> Iterator[Check]:
    match card:
        case SlurmCard():
            yield from _check_commands("Slurm", ("sbatch", "squeue", "scancel"), ("sinfo", "--noheader", "--format=%R"))
            if card.partition is not None and (found := _ask("sinfo", "--noheader", "--format=%R")) is not None:
                partitions = sorted(set(found.split()))
                if card.partition not in partitions:
                    advice = f"Set `partition` to one of {', '.join(partitions) or 'those there are'}."
                    yield Check("partition", "failed", f"there is no `{card.partition}`", advice)
        case PBSCard():
            yield from _check_commands("PBS", ("qsub", "qstat", "qdel"), ("qstat", "-Q"))
        case KubernetesCard():
            if _version("kubernetes") is None:
                yield Check("kubernetes", "failed", "the package is not installed", "`pip install kubernetes`")
            else:
                yield Check("kubernetes", "ok", f"package {_version('kubernetes')}")
        case _:
            pass


def _check_commands(name: str, commands: tuple[str, ...], question: tuple[str, ...]) -> Iterator[Check]:
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        advice = "Run this on a machine that submits jobs, or load its module."
        yield Check(name, "failed", f"not in PATH: {', '.join(missing)}", advice)
    elif _ask(*question) is None:
        yield Check(name, "failed", f"`{' '.join(question)}` does not answer", "Ask it by hand, and see what it says.")
    else:
        yield Check(name, "ok", ", ".join(commands))


def _ask(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _check_workers(card: AnyCard, root: Path, timeout: float) -> Iterator[Check]:
    from lambda_hat.execution.cluster import Cluster

    with tempfile.TemporaryDirectory(prefix="doctor-", dir=root, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "controller").write_text(socket.gethostname(), encoding="utf-8")
        start = time.monotonic()
        try:
            with Cluster(card, folder / "parsl_runinfo") as cluster:
                probes = {label: cluster.submit(probe_task, str(folder), label=label) for label in cluster.labels}
                for label, future in probes.items():
                    yield _check_worker(label, future, folder, start, timeout)
        except ExecutionError as error:
            yield Check("workers", "failed", str(error), "See the card's `worker_init`.")


def _check_worker(label: str, future: Future[dict[str, Any]], folder: Path, start: float, timeout: float) -> Check:
    name = f"worker {label}"
    try:
        found = future.result(max(0.0, start + timeout - time.monotonic()))
    except TimeoutError:
        advice = "Its block may still wait in the queue: `--timeout SECONDS`; else see its logs with `worker_init`."
        return Check(name, "failed", f"no answer within {timeout:g} s", advice)
    except Exception as error:
        return Check(name, "failed", f"{type(error).__name__}: {error}", "See the card's `worker_init`.")
    seconds = time.monotonic() - start
    if not found["sees_controller"]:
        advice = "`store.root` must be on a file system that workers share, under the same path."
        return Check(name, "failed", f"{found['host']} does not see {folder}", advice)
    if not (folder / f"worker-{label}").is_file():
        return Check(name, "failed", f"what {found['host']} writes is not seen here", "`store.root` must be shared.")
    if wrong := {dtype for dtype, error in LARGEST_ERRORS.items() if not found["errors"].get(dtype, 1.0) <= error}:
        return Check(name, "failed", f"no {' and no '.join(sorted(wrong))} on {found['device']}", "See JAX_PLATFORMS.")
    if different := _different(found["versions"]):
        return Check(name, "failed", f"other versions there: {different}", "Give workers the controller's environment.")
    devices = ", ".join(sorted(set(found["devices"])))
    return Check(
        name, "ok", f"{found['host']}, {devices}, {found['num_cores']} cores, float64 and float32, {seconds:.1f} s"
    )


def _different(versions: Mapping[str, str | None]) -> str:
    here = {name: _version(name) for name in versions if name != "git_commit"}
    return ", ".join(f"{name} {versions[name]}, here {here[name]}" for name in here if versions[name] != here[name])
