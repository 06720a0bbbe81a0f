"""Whether an environment and a card can run a study, and what to mend where they cannot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.card import AnyCard, InlineCard, KubernetesCard, LocalCard, ParslCard, PBSCard, SlurmCard
from lambda_hat.config.load import LoadedCard, LoadedFile
from lambda_hat.errors import ConfigError, ExecutionError
from lambda_hat.execution.port import open_executors
from lambda_hat.execution.resources import capacity
from lambda_hat.records.probe import Probe
from lambda_hat.tasks import probe_task
from lambda_hat.workflows.plan import check_execution

__all__ = ["Check", "examine"]

MIN_FREE_GIB = 2.0
LARGEST_ERRORS = {"float64": 1e-15, "float32": 1e-6}
_PROBE_IMPORTS = "import lambda_hat.workflows.optuna, lambda_hat.tasks.reference, lambda_hat.tasks.trial"
_PROBE_JAX = """
import jax
with jax.enable_x64(True):
    total = jax.numpy.full(3, 1 / 3).sum()
if total.dtype != "float64" or abs(float(total) - 1) > 1e-15:
    raise SystemExit(f"3 * (1/3) in float64 is {total} in {total.dtype}")
print(jax.__version__, *(device.device_kind for device in jax.devices()), "float64", sep=", ")
"""
_THREADS_VARIABLE = "PJRT_NPROC"  # what sizes XLA's thread pool


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def examine(loaded: LoadedFile | LoadedCard, *, with_workers: bool, timeout: float) -> Iterator[Check]:
    """Every check of this machine, this environment and the card, cheap ones first, and last the card's own workers.

    Raises:
        ConfigError: card and file do not fit together.
    """
    if faults := check_execution(loaded):
        raise ConfigError(faults)
    store = loaded.sections.store if isinstance(loaded, LoadedFile) else loaded.store
    yield from _check_packages()
    yield _check_program("imports", _PROBE_IMPORTS, "Install the project again: `pip install -e .`.")
    yield _check_bytecode()
    yield _check_program("JAX", _PROBE_JAX, "Install JAX for this machine, or set JAX_PLATFORMS=cpu.")
    yield _check_scripts()
    yield _check_cores(loaded.card)
    yield _check_port()
    yield from _check_scheduler(loaded.card)
    root = Paths.from_store(store).root
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
    python = platform.python_version()
    try:
        lines = importlib.metadata.requires("lambda-hat") or []
        bounds = importlib.metadata.metadata("lambda-hat")["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "package", "warning", "lambda-hat is not installed, only imported", "`pip install -e .` in its folder"
        )
        return
    wrong = [] if SpecifierSet(bounds).contains(python, prereleases=True) else [f"Python {python}, needs {bounds}"]
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


def _check_program(name: str, program: str, advice: str) -> Check:
    # In a process of its own: Parsl forks, and a process with JAX in it must not.
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        advice = "A device or a file system may be hanging: try JAX_PLATFORMS=cpu."
        return Check(name, "failed", "does not come up within 120 s", advice)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Check(name, "failed", reason[0], advice)
    return Check(name, "ok", done.stdout.strip() or "all that a run needs")


def _check_bytecode() -> Check:
    """Whether what processes import was compiled for good, now that one has imported it."""
    spec = find_spec("jax")
    if spec is None or spec.cached is None or Path(spec.cached).exists():
        return Check("bytecode", "ok", "Python keeps what it compiles")
    advice = "Unset PYTHONDONTWRITEBYTECODE, or compile what is installed: `uv sync --compile-bytecode`."
    return Check("bytecode", "warning", "every process compiles all it imports, for seconds", advice)


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
            partitions = (_ask("sinfo", "--noheader", "--format=%R") or "").split()
            yield from _check_known("partition", (card.partition or "").split(","), partitions)
            accounts = _ask("sacctmgr", "--noheader", "--parsable2", "show", "account", "format=account")
            yield from _check_known("account", [card.account], (accounts or "").split())
        case PBSCard():
            yield from _check_commands("PBS", ("qsub", "qstat", "qdel"), ("qstat", "-Q"))
            queues = [line.split()[0] for line in (_ask("qstat", "-Q") or "").splitlines()[2:] if line.strip()]
            yield from _check_known("queue", [(card.queue or "").partition("@")[0]], queues)
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


def _check_known(field: str, wanted: Iterable[str | None], known: Iterable[str]) -> Iterator[Check]:
    """Whether the scheduler lists what the card names; nothing where the card names none or nothing was listed."""
    names, listed = [name for name in wanted if name], sorted(set(known))
    if not names or not listed:
        return
    if unknown := [name for name in names if name not in listed]:
        advice = f"Set `{field}` to one of {', '.join(listed)}."
        yield Check(field, "failed", f"there is no {' and no '.join(f'`{name}`' for name in unknown)}", advice)
    else:
        yield Check(field, "ok", ", ".join(names))


def _ask(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _check_workers(card: AnyCard, root: Path, timeout: float) -> Iterator[Check]:
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=root, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "controller").write_text(socket.gethostname(), encoding="utf-8")
        start = time.monotonic()
        try:
            with open_executors(card, folder / "parsl_runinfo") as executors:
                labels = executors.labels
                probes = {label: executors.submit(probe_task, str(folder), label=label) for label in labels}
                threads = {label: executors.submit(os.getenv, _THREADS_VARIABLE, label=label) for label in labels}
                for label, future in probes.items():
                    check = _check_worker(label, future, folder, start, timeout)
                    yield check
                    if check.state == "ok" and not isinstance(card, InlineCard):
                        yield from _check_threads(label, threads[label], _cores_per_worker(card, label), timeout)
        except ExecutionError as error:
            yield Check("workers", "failed", str(error), "See the card's `worker_init`.")


def _check_worker(label: str, future: Future[Probe], folder: Path, start: float, timeout: float) -> Check:
    name = f"worker {label}"
    try:
        found = future.result(max(0.0, start + timeout - time.monotonic()))
    except TimeoutError:
        advice = "Its block may still wait in the queue: `--timeout SECONDS`; else see its logs with `worker_init`."
        return Check(name, "failed", f"no answer within {timeout:g} s", advice)
    except Exception as error:
        return Check(name, "failed", f"{type(error).__name__}: {error}", "See the card's `worker_init`.")
    seconds, origin = time.monotonic() - start, found.provenance
    if not found.sees_controller:
        advice = "`store.root` must be on a file system that workers share, under the same path."
        return Check(name, "failed", f"{origin.host} does not see {folder}", advice)
    if not (folder / f"worker-{label}").is_file():
        return Check(name, "failed", f"what {origin.host} writes is not seen here", "`store.root` must be shared.")
    if wrong := {dtype for dtype, error in LARGEST_ERRORS.items() if not found.errors.get(dtype, 1.0) <= error}:
        return Check(name, "failed", f"no {' and no '.join(sorted(wrong))} on {origin.device}", "See JAX_PLATFORMS.")
    if different := _different(origin.versions or {}):
        return Check(name, "failed", f"other versions there: {different}", "Give workers the controller's environment.")
    devices = ", ".join(sorted(set(found.devices)))
    return Check(name, "ok", f"{origin.host}, {devices}, {found.num_cores} cores, float64 and float32, {seconds:.1f} s")


def _cores_per_worker(card: ParslCard, label: str) -> float:
    pools = card.executors if isinstance(card, LocalCard) else (card,)
    return next(pool.cores_per_worker for pool in pools if pool.label == label)


def _check_threads(label: str, future: Future[str | None], cores: float, timeout: float) -> Iterator[Check]:
    name = f"threads {label}"
    try:
        found = future.result(timeout)
    except Exception as error:
        yield Check(name, "failed", f"{type(error).__name__}: {error}", "See the card's `worker_init`.")
        return
    if found is None or not found.isdecimal() or int(found) > max(1.0, cores):
        advice = f"Workers would fight over cores: leave {_THREADS_VARIABLE} out of `worker_init`."
        yield Check(name, "warning", f"{_THREADS_VARIABLE}={found}, `cores_per_worker` {cores:g}", advice)


def _different(versions: Mapping[str, str | None]) -> str:
    here = {name: _version(name) for name in versions if name != "git_commit"}
    return ", ".join(f"{name} {versions[name]}, here {here[name]}" for name in here if versions[name] != here[name])
