"""Every part of Parsl that its documentation does not promise, and a check that each is as it is used here.

Other modules use the names of this one. A Parsl in which a part is another is refused before anything starts: what an
override or a replaced command silently lost would be missed only when processes outlive a run.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
import runpy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import CodeType
from typing import Any

from parsl import curvezmq
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput import executor as high_throughput
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import KubernetesProvider, LocalProvider, PBSProProvider, SlurmProvider
from parsl.providers.errors import SubmitException

from lambda_hat.errors import ExecutionError

__all__ = [
    "TESTED_VERSIONS",
    "Executor",
    "Kubernetes",
    "Pbs",
    "Slurm",
    "blocks_of",
    "bound_silence",
    "build_executor",
    "cancel_blocks",
    "check_parsl",
    "manager_command",
    "manager_program",
    "refusal",
    "run_interchange",
    "silence_allowed",
    "submit",
]

TESTED_VERSIONS = ("2026.10.26",)

_MANAGER = "process_worker_pool.py"  # Parsl's script that manages the workers of a node
_THRESHOLD = "--hb_threshold="  # its argument: seconds without a heartbeat until the other side counts as lost
_STDERR = "stderr="  # in what Parsl says of a block that was refused
_MODULES = "parsl.executors.high_throughput"
_SECONDS_BETWEEN_QUESTIONS = 15  # about the state of blocks
_SECONDS_AFTER_A_REFUSAL = 30.0  # until a scheduler that refused a block is asked again
_OF_SITE = ("SLURM_CONF", "SLURM_CLUSTERS")  # the only variables of Slurm's that are not about a job


def check_parsl() -> None:
    """Compare the installed Parsl with what is used of it here.

    Raises:
        ExecutionError: parts are missing or changed; it names them, the version found and the versions tested.
    """
    if missing := [part for part, is_there in _PARTS.items() if not _holds(is_there)]:
        raise _changed(*missing)


def manager_command() -> str:
    """Parsl's command for the manager of a node's workers, which starts this package's instead."""
    command = _launch_command()
    if not command.startswith(f"{_MANAGER} "):
        raise _changed(_LAUNCH_COMMAND)
    return f"python -P -m lambda_hat.execution.parsl.manager{command.removeprefix(_MANAGER)}"


def manager_program() -> CodeType:
    """Parsl's script for the manager, to be run as the main module of a process."""
    path = _path_of("process_worker_pool")
    return compile(path.read_bytes(), path, "exec")


def run_interchange() -> None:
    """Be Parsl's interchange until it ends."""
    runpy.run_module(f"{_MODULES}.interchange", run_name="__main__", alter_sys=True)


def silence_allowed(arguments: Sequence[str]) -> int:
    """Seconds without a heartbeat that the manager's command line allows."""
    for argument in arguments:
        if argument.startswith(_THRESHOLD):
            return int(argument.removeprefix(_THRESHOLD))
    raise _changed(_LAUNCH_COMMAND)


def bound_silence(seconds: int) -> None:
    """Have no socket of this process, a manager's, wait longer than that for an answer."""
    if not _holds(_has_manager):
        raise _changed(_MANAGER_SCRIPT)

    class Context(curvezmq.ClientContext):
        def socket(self, *args: Any, **kwargs: Any) -> Any:
            socket = super().socket(*args, **kwargs)
            socket.rcvtimeo = 1000 * seconds
            return socket

    curvezmq.ClientContext = Context


def submit(kernel: DataFlowKernel, label: str, task: Callable[..., Any], args: Sequence[Any]) -> Future[Any]:
    """Run `task(*args)` on the executor of that label: an app cannot be told in its call where it goes."""
    return kernel.submit(task, app_args=args, executors=[label], cache=False, ignore_for_cache=None, app_kwargs={})


def refusal(status: JobStatus) -> str:
    """What the scheduler's command answered when it refused a block, as far as Parsl quotes it."""
    message = status.message or ""
    return " ".join((message.partition(_STDERR)[2] or message).split())


class Executor(HighThroughputExecutor):
    """An executor that asks a scheduler which refused a block only now and then: a full quota can last for hours.

    It is made by `build_executor`.
    """

    _next_request = 0.0  # on the monotonic clock

    def scale_out_facade(self, n: int) -> list[str]:
        """Ask for `n` blocks; the names of those that there are."""
        blocks: list[str] = []
        while len(blocks) < n and time.monotonic() >= self._next_request:
            if not (block := super().scale_out_facade(1)):
                self._next_request = time.monotonic() + _SECONDS_AFTER_A_REFUSAL
            blocks += block
        return blocks

    @property
    def why_broken(self) -> str | None:
        """Why it takes no task any more, and never will; None while it does."""
        return str(self.executor_exception).strip() if self.bad_state_is_set else None

    @property
    def jobs(self) -> Mapping[str, str]:
        """The scheduler's name for every block that it accepted."""
        return self.blocks_to_job_id

    @property
    def block_states(self) -> Mapping[str, JobStatus]:
        """How each block was when its scheduler was asked last."""
        return self.status_facade

    @property
    def ended_blocks(self) -> list[str]:
        """Blocks that workers had reported from, and that ended without being asked to."""
        kept = (JobState.MISSING, JobState.SCALED_IN)  # MISSING: no worker had reported
        return [block for block, status in self.block_states.items() if status.terminal and status.state not in kept]

    @property
    def interchange_pid(self) -> int | None:
        """The process of its interchange; None where that was not started or has ended."""
        process = self.interchange_proc
        return None if process is None or process.poll() is not None else process.pid

    @property
    def end_of_interchange(self) -> int | None:
        """The exit code of its interchange; None where that was not started or runs."""
        return None if self.interchange_proc is None else self.interchange_proc.poll()

    def end_interchange(self) -> None:
        """Ask its interchange to end, and the thread that listens to it."""
        self._result_queue_thread_exit.set()
        if self.interchange_proc is not None:
            self.interchange_proc.terminate()

    def give_up(self, reason: Exception, num_blocks: int) -> None:
        """Fail all its tasks and every later one, and cancel its blocks, which Parsl would leave to their walltime."""
        try:
            if self.jobs:
                self.scale_in_facade(num_blocks)
        finally:
            self.set_bad_state_and_fail_all(reason)


def build_executor(addresses: set[str], **options: Any) -> Executor:
    """An executor with Parsl's `options`, whose workers find it at `addresses`.

    Parsl's own list of addresses asks a web service for one more.
    """
    executor = Executor(**options)
    for name in ("all_addresses", "blocks_to_job_id", "interchange_proc", "_result_queue_thread_exit"):
        if not hasattr(executor, name):
            raise _changed(f"HighThroughputExecutor.{name}")
    if not hasattr(executor.provider, "resources"):
        raise _changed(f"{type(executor.provider).__name__}.resources")
    executor.all_addresses = addresses
    return executor


def blocks_of(provider: LocalProvider) -> Iterator[tuple[int, str]]:
    """The process of every block on this machine, and the script that it runs."""
    for block in list(provider.resources.values()):
        yield block["remote_pid"], block["script_path"]


def cancel_blocks(executor: Executor) -> None:
    """Cancel every block that its provider was ever given."""
    provider = executor.provider
    if provider is not None and (jobs := list(provider.resources)):
        provider.cancel(jobs)


class _AsksOften:
    """Asks for the state of its blocks more often: until it knows that one has ended, no other is submitted."""

    @property
    def status_polling_interval(self) -> Any:  # which Parsl's providers have as 60 and nothing else
        return _SECONDS_BETWEEN_QUESTIONS


class Slurm(_AsksOften, SlurmProvider):
    """Asks for blocks in its own name, also from inside a job: that job's variables would contradict a block's."""

    def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int, str, str]:
        """Run `cmd` without what Slurm says of the job around it."""
        of_job = [
            name
            for name in os.environ
            if name.startswith(("SLURM_", "SRUN_")) and name not in _OF_SITE and name.isidentifier() and name.isascii()
        ]
        return super().execute_wait(f"unset {' '.join(of_job)}; {cmd}" if of_job else cmd, timeout)


class Pbs(_AsksOften, PBSProProvider):
    """Blocks that are jobs of PBS Professional."""


class Kubernetes(_AsksOften, KubernetesProvider):
    """Blocks that are pods."""


def _changed(*parts: str) -> ExecutionError:
    return ExecutionError(
        f"Parsl {importlib.metadata.version('parsl')} is not as lambda-hat needs it: {'; '.join(parts)}. "
        f"Tested with {', '.join(TESTED_VERSIONS)}: `pip install parsl=={TESTED_VERSIONS[-1]}`."
    )


def _holds(is_there: Callable[[], bool]) -> bool:
    try:
        return is_there()
    except Exception:  # whatever a part that is another one leads to
        return False


def _launch_command() -> str:
    return high_throughput.DEFAULT_LAUNCH_CMD


def _path_of(module: str) -> Path:
    """The source of one of Parsl's modules, which is not imported for that."""
    spec = importlib.util.find_spec(f"{_MODULES}.{module}")
    if spec is None or spec.origin is None:
        raise _changed(f"{module}.py")
    return Path(spec.origin)


def _is_script(module: str, *pieces: str) -> bool:
    source = _path_of(module).read_text(encoding="utf-8")
    return all(piece in source for piece in ('if __name__ == "__main__":', *pieces))


def _has_manager() -> bool:
    is_script = _is_script("process_worker_pool", "curvezmq.ClientContext(", _THRESHOLD.rstrip("="))
    return is_script and callable(curvezmq.ClientContext.socket)


def _takes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether the call would be one that `function` takes."""
    inspect.signature(function).bind(*args, **kwargs)
    return True


def _is_property(owner: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(owner, name), property)


_LAUNCH_COMMAND = f"DEFAULT_LAUNCH_CMD with `{_MANAGER}` and `{_THRESHOLD}`"
_MANAGER_SCRIPT = f"{_MANAGER} with `curvezmq.ClientContext`"

_PARTS: dict[str, Callable[[], bool]] = {
    _LAUNCH_COMMAND: lambda: _launch_command().startswith(f"{_MANAGER} ") and f" {_THRESHOLD}" in _launch_command(),
    _MANAGER_SCRIPT: _has_manager,
    "interchange.py": lambda: _is_script("interchange"),
    "DataFlowKernel.submit": lambda: _takes(
        DataFlowKernel.submit, None, print, app_args=(), executors=[], cache=False, ignore_for_cache=None, app_kwargs={}
    ),
    "HighThroughputExecutor.scale_out_facade": lambda: _takes(HighThroughputExecutor.scale_out_facade, None, 1),
    "HighThroughputExecutor.scale_in_facade": lambda: _takes(HighThroughputExecutor.scale_in_facade, None, 1),
    "HighThroughputExecutor.set_bad_state_and_fail_all": lambda: _takes(
        HighThroughputExecutor.set_bad_state_and_fail_all, None, Exception()
    ),
    "HighThroughputExecutor.bad_state_is_set": lambda: _is_property(HighThroughputExecutor, "bad_state_is_set"),
    "HighThroughputExecutor.executor_exception": lambda: _is_property(HighThroughputExecutor, "executor_exception"),
    "HighThroughputExecutor.status_facade": lambda: _is_property(HighThroughputExecutor, "status_facade"),
    "SlurmProvider.status_polling_interval": lambda: _is_property(SlurmProvider, "status_polling_interval"),
    "PBSProProvider.status_polling_interval": lambda: _is_property(PBSProProvider, "status_polling_interval"),
    "KubernetesProvider.status_polling_interval": lambda: _is_property(KubernetesProvider, "status_polling_interval"),
    "SlurmProvider.execute_wait": lambda: _takes(SlurmProvider.execute_wait, None, "true", 1),
    "LocalProvider.resources with `remote_pid` and `script_path`": lambda: all(
        f"'{key}'" in inspect.getsource(LocalProvider.submit) for key in ("remote_pid", "script_path")
    ),
    "SubmitException that quotes `stderr=`": lambda: str(SubmitException("a", "b", stderr="c")).endswith("stderr=c"),
}
