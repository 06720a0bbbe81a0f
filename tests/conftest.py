"""Fixtures that several packages' tests share. JAX is imported inside them, for the tests which must not load it."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import hypothesis
import psutil
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from lambda_hat.posterior import LocalPosterior
    from lambda_hat.targets import Model

BuildQuadratic = "Callable[..., tuple[Model, LocalPosterior]]"

FailingWrites = "Callable[..., AbstractContextManager[Writes]]"

MAX_DEVIATION = 4.0  # Monte Carlo standard errors

# Seconds after which a process or an event will never come. Nothing that is tested takes a tenth of it on a quiet
# machine, so no test fails because a machine is slow or busy.
HANGING = 900.0

MOST_MEMORY = 1.5e9  # bytes of one process, before it drops what it has compiled

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# Most of the time of the tests is XLA's, which compiles thousands of small programs. These save more than half of it;
# what is compiled takes up to twice as long, which is little. An empty XLA_FLAGS in the environment tests what users
# run.
QUICK_COMPILATION = (
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    " --xla_llvm_disable_expensive_passes=true"
)


def wait_until(is_so: Callable[[], object], story: Callable[[], str] = lambda: "it hangs") -> None:
    """Wait for an event that must come, looking every 50 ms; `story` says what there was instead."""
    deadline = time.monotonic() + HANGING
    while not is_so():
        assert time.monotonic() < deadline, story()
        time.sleep(0.05)


def pytest_configure(config: pytest.Config) -> None:
    """One place for what XLA compiles, for all the processes that tests start; and they keep Python's bytecode.

    Without it each of them, and there are hundreds, spends seconds on compiling what it imports.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("PJRT_NPROC", "1")  # of XLA's threads: as in a worker, and several files are tested at a time
    os.environ.setdefault("XLA_FLAGS", QUICK_COMPILATION)
    # Small programs are kept too: there are thousands of them, and most are compiled by several processes.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    if CACHE_VARIABLE not in os.environ and not hasattr(config, "workerinput"):
        folder = os.environ[CACHE_VARIABLE] = tempfile.mkdtemp(prefix="lambda-hat-tests-")
        config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))
    hypothesis.settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Nightly tests are slow ones. Files whose slow tests take longest come first, so that no long file starts last."""
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker("slow")
    yield  # `-m` is applied
    seconds: Counter[Path] = Counter()
    for item in items:
        if slow := item.get_closest_marker("slow"):
            seconds[item.path] += slow.kwargs.get("seconds", 4)
    first = {path: -index for index, path in reversed(list(enumerate(item.path for item in items)))}
    items.sort(key=lambda item: (seconds[item.path], first[item.path]), reverse=True)


@pytest.fixture(scope="session", autouse=True)
def children_can_be_interrupted() -> None:
    """What runs pytest in the background may have it ignore signals, and whatever it starts inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="module", autouse=True)
def programs_do_not_pile_up() -> Iterator[None]:
    """JAX keeps every program that it has compiled: gigabytes, in the end. Few of them are of use to another file."""
    yield
    jax = sys.modules.get("jax")
    if jax is not None and psutil.Process().memory_info().rss > MOST_MEMORY:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def float64() -> Iterator[None]:
    """JAX in 64-bit mode for one test."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """Names of the programs that are compiled, or taken from a cache on disk, during a test."""
    import jax

    names: list[str] = []

    def listen(event: str, _seconds: float, **facts: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(facts.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def build_quadratic() -> BuildQuadratic:
    """Builds a target with a quadratic loss and its posterior. Tests that keep the defaults share compiled kernels."""
    import jax

    from lambda_hat.config.problems import PosteriorSpec, QuadraticProblem
    from lambda_hat.posterior import posterior_of
    from lambda_hat.targets import build_target

    def build(*, localization: float = 10.0, dtype: str = "float64", **fields: object) -> tuple[Model, LocalPosterior]:
        fields = {"dim": 5, "num_data": 300, "smallest_curvature": 0.5, "largest_curvature": 5.0} | fields
        problem = QuadraticProblem(posterior=PosteriorSpec(localization=localization), **fields)
        with jax.enable_x64(True):
            target = build_target(problem)
            return target, posterior_of(target, problem.posterior, dtype)

    return build


@pytest.fixture
def is_within() -> Callable[[float, float, float], bool]:
    """The one criterion of every statistical test: an estimate with its standard error against the truth."""

    def is_within(estimate: float, error: float, truth: float) -> bool:
        return abs(estimate - truth) <= MAX_DEVIATION * error  # False for a NaN

    return is_within


@dataclass
class Writes:
    """How many writes were begun while `failing_writes` watched; from number `failing_from` on, the disk was full."""

    failing_from: int | None
    is_torn: bool
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write_all(self, descriptor: int, content: bytes) -> None:
        with self.lock:
            self.count += 1
            is_full = self.failing_from is not None and self.count >= self.failing_from
        rest = memoryview(content)[: len(content) // 2 if self.is_torn else 0] if is_full else memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def failing_writes(monkeypatch: pytest.MonkeyPatch) -> FailingWrites:
    """A `with` block, in this process, on a disk that is full from the `failing_from`-th write on, counted from 1.

    It counts what goes through `artifacts.files` and the journal. With `is_torn`, half the bytes of every write that
    fails have been written. Without a number nothing fails, and `count` says how many writes there were.
    """
    from lambda_hat.artifacts import files
    from lambda_hat.tuning import journal

    @contextmanager
    def failing_writes(failing_from: int | None = None, *, is_torn: bool = False) -> Iterator[Writes]:
        writes = Writes(failing_from, is_torn)
        with monkeypatch.context() as patch:
            for module in (files, journal):
                patch.setattr(module, "write_all", writes.write_all)
            yield writes

    return failing_writes
