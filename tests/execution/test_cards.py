import math
import os
import re
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsl.jobs.states import JobState, JobStatus
from parsl.providers.errors import SubmitException
from parsl.providers.kubernetes import kube

from lambda_hat.config.card import InlineCard, KubernetesCard, LocalCard, LocalExecutor, PBSCard, SlurmCard, Volume
from lambda_hat.config.study import Budget
from lambda_hat.errors import ConfigError, ExecutionError, UsageError
from lambda_hat.execution.parsl import private
from lambda_hat.execution.parsl.cards import load_parsl_config_from_card
from lambda_hat.execution.parsl.cluster import Cluster
from lambda_hat.execution.parsl.pool import Pool
from lambda_hat.execution.resources import (
    _local_capacity,
    capacity,
    check_budget,
    check_card,
    walltime_seconds,
)


def local_card(*executors):
    return LocalCard(executors=executors)


@given(
    st.integers(1, 256),
    st.lists(
        st.tuples(st.one_of(st.just("auto"), st.integers(1, 8)), st.sampled_from([0.5, 1.0, 2.0, 3.0])), min_size=1
    ),
)
def test_auto_pools_fill_the_machine_and_no_more(num_cores, pools):
    executors = [
        LocalExecutor(label=f"p{index}", max_workers=count, cores_per_worker=cores)
        for index, (count, cores) in enumerate(pools)
    ]
    workers = _local_capacity(executors, num_cores)
    automatic = [pool for pool in executors if pool.max_workers == "auto"]
    fixed = sum(workers[pool.label] * pool.cores_per_worker for pool in executors if pool not in automatic)
    free = max(0.0, num_cores - fixed)
    assert all(workers[pool.label] >= 1 for pool in automatic)
    assert sum(workers[pool.label] * pool.cores_per_worker for pool in automatic if workers[pool.label] > 1) <= free
    if automatic and all(pool.cores_per_worker == 1 for pool in automatic):
        assert sum(workers[pool.label] for pool in automatic) == max(len(automatic), math.floor(free))


@pytest.mark.parametrize(("num_cores", "expected"), [(1, (1, 1)), (2, (1, 1)), (5, (3, 2)), (16, (8, 8))])
def test_two_auto_pools_share_the_cores(num_cores, expected):
    pools = (LocalExecutor(label="htex64"), LocalExecutor(label="htex32"))
    assert tuple(_local_capacity(pools, num_cores).values()) == expected


def test_slurm_capacity_counts_gpus_before_cores():
    node = {"type": "slurm", "cores_per_node": 32, "nodes_per_block": 2, "max_blocks": 3}
    assert capacity(SlurmCard(**node, cores_per_worker=4.0)) == {"htex_slurm": 48}
    assert capacity(SlurmCard(**node, gpus_per_node=4)) == {"htex_slurm": 24}
    assert capacity(SlurmCard(**node, max_workers=5)) == {"htex_slurm": 30}


def test_faults_of_cards():
    assert check_card(local_card(LocalExecutor(label="a"))) == check_card(InlineCard()) == []
    with pytest.raises(ConfigError, match="`auto` needs `cores_per_node` or `gpus_per_node`"):
        capacity(SlurmCard(type="slurm"))


@pytest.mark.parametrize(
    ("walltime", "seconds"), [("00:05:00", 300.0), ("48:00:30", 172830.0), ("2-01:00:00", 176400.0)]
)
def test_walltime_in_seconds(walltime, seconds):
    assert walltime_seconds(SlurmCard(type="slurm", walltime=walltime)) == seconds


def test_a_budget_beyond_the_walltime_is_a_fault():
    card = SlurmCard(type="slurm", walltime="01:00:00")
    assert [str(fault) for fault in check_budget(card, Budget(hmc_sec=7200.0, trial_sec=600.0))] == [
        "execution.budget.hmc_sec: 7200 s, but a block of the Parsl card ends after 3600 s (walltime: 01:00:00).\n"
        "    Lower `execution.budget.hmc_sec` or raise the card's `walltime`."
    ]
    assert check_budget(local_card(LocalExecutor(label="a")), Budget()) == []


def test_slurm_card_to_parsl(tmp_path):
    card = SlurmCard(
        type="slurm",
        label="gpu",
        partition="a100",
        account="me",
        nodes_per_block=2,
        max_blocks=3,
        walltime="1-00:00:30",
        cores_per_node=16,
        mem_per_node=64,
        gpus_per_node=4,
        gpu_type="a100",
        scheduler_options_extra=("#SBATCH --mail-type=END", "#SBATCH --nice"),
        worker_init="module load cuda",
        max_workers=8,
    )
    config = load_parsl_config_from_card(card, tmp_path / "parsl_runinfo")
    (executor,) = config.executors
    provider = executor.provider
    assert (config.retries, config.usage_tracking, config.strategy) == (0, 0, "simple")
    assert config.run_dir == str(tmp_path / "parsl_runinfo")
    assert (executor.label, executor.workers_per_node, len(executor.available_accelerators)) == ("gpu", 8, 8)
    assert (provider.init_blocks, provider.min_blocks, provider.max_blocks) == (1, 1, 3)
    assert (provider.walltime, provider.mem_per_node, provider.cores_per_node) == ("24:01:00", 64, 16)
    assert type(provider.launcher).__name__ == "SrunLauncher"
    assert provider.launcher.overrides == "--cpu-bind=none", "a manager's workers need all cores of its job"
    assert provider.scheduler_options.splitlines() == [
        "#SBATCH --mail-type=END",
        "#SBATCH --nice",
        "#SBATCH --partition=a100",
        "#SBATCH --account=me",
        "#SBATCH --gres=gpu:a100:4",
    ]
    assert executor.available_accelerators == ["0,-1", "1,-1", "2,-1", "3,-1"] * 2
    lines = provider.worker_init.splitlines()
    assert "export XLA_PYTHON_CLIENT_MEM_FRACTION=0.375" in lines
    assert lines[-1] == "module load cuda", "what the card says comes last and wins"
    assert "127.0.0.1" in executor.all_addresses


def test_slurm_card_without_a_size_takes_whole_nodes(tmp_path):
    (executor,) = load_parsl_config_from_card(SlurmCard(type="slurm", max_workers=2), tmp_path).executors
    assert "#SBATCH --exclusive" in executor.provider.scheduler_options
    assert type(executor.provider.launcher).__name__ == "SingleNodeLauncher"


@pytest.mark.parametrize(("given", "asked"), [(None, []), (64, ["#SBATCH --mem=64g"])])
def test_a_job_asks_for_memory_only_where_the_card_does(tmp_path, monkeypatch, given, asked):
    card = SlurmCard(type="slurm", cores_per_node=2, mem_per_node=given)
    provider = load_parsl_config_from_card(card, tmp_path).executors[0].provider
    provider.script_dir = str(tmp_path)
    monkeypatch.setattr(provider, "execute_wait", lambda command: (0, "Submitted batch job 7", ""))
    assert provider.submit("true", 1) == "7"
    (script,) = tmp_path.glob("parsl.slurm.*")
    lines = script.read_text().splitlines()
    assert [line for line in lines if line.startswith("#SBATCH --mem")] == asked
    assert "#SBATCH --cpus-per-task=2" in lines
    assert {f"#SBATCH --output={script}.stdout", f"#SBATCH --error={script}.stderr"} <= set(lines)


class Scheduler:
    """Accepts or refuses the blocks of an executor; `clock` is the time that the executor sees."""

    def __init__(self, executor):
        self.executor = executor
        self.clock = 0.0
        self.is_full = False
        self.num_requests = 0
        self.num_cancelled = 0

    def launch(self, block):
        self.num_requests += 1
        if self.is_full:
            raise SubmitException(block, "no job ID", stderr="sbatch: error: QOSMaxSubmitJobPerUserLimit\n", retcode=1)
        return f"job-{block}"

    def cancel(self, num_blocks):
        self.num_cancelled += num_blocks
        return []

    def state_is(self, state, *blocks):
        self.executor._status |= {block: JobStatus(state) for block in blocks}

    def reason_given_up(self):
        self.executor.handle_errors(self.executor.status_facade)
        return str(self.executor.executor_exception) if self.executor.bad_state_is_set else None


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    (executor,) = load_parsl_config_from_card(SlurmCard(type="slurm", max_workers=1, max_blocks=4), tmp_path).executors
    scheduler = Scheduler(executor)
    monkeypatch.setattr(executor, "_launch_block", scheduler.launch)
    monkeypatch.setattr(executor, "scale_in", scheduler.cancel)
    monkeypatch.setattr(private, "time", SimpleNamespace(monotonic=lambda: scheduler.clock))
    return scheduler


def test_a_refused_first_block_ends_the_executor_with_the_schedulers_words(scheduler):
    scheduler.is_full = True
    assert scheduler.executor.scale_out_facade(3) == []
    assert scheduler.num_requests == 1
    assert scheduler.reason_given_up() == "its first block is refused: sbatch: error: QOSMaxSubmitJobPerUserLimit"


def test_refused_blocks_are_asked_for_now_and_then_while_another_runs(scheduler):
    assert scheduler.executor.scale_out_facade(1) == ["0"]
    scheduler.state_is(JobState.RUNNING, "0")
    scheduler.is_full = True
    for scheduler.clock in range(1, 301):
        scheduler.executor.scale_out_facade(3)
    assert scheduler.num_requests == 1 + 10
    assert scheduler.reason_given_up() is None
    scheduler.is_full, scheduler.clock = False, 400.0
    assert len(scheduler.executor.scale_out_facade(3)) == 3


def test_refused_blocks_end_an_executor_that_has_no_other(scheduler):
    scheduler.executor.scale_out_facade(1)
    scheduler.state_is(JobState.COMPLETED, "0")
    scheduler.is_full = True
    for scheduler.clock in (1.0, 40.0):
        scheduler.executor.scale_out_facade(1)
        assert scheduler.reason_given_up() is None
    scheduler.clock = 80.0
    scheduler.executor.scale_out_facade(1)
    assert "3 blocks in a row" in scheduler.reason_given_up()


def test_blocks_that_end_before_a_worker_reported_end_the_executor_even_where_one_runs(scheduler):
    scheduler.executor.scale_out_facade(4)
    scheduler.state_is(JobState.RUNNING, "0")
    scheduler.state_is(JobState.MISSING, "1", "2")
    scheduler.state_is(JobState.COMPLETED, "3")
    assert scheduler.reason_given_up() is None, "the last one did work"
    scheduler.state_is(JobState.MISSING, "3")
    assert "ended before a worker reported, the last with no output" in scheduler.reason_given_up()
    assert scheduler.num_cancelled == 4, "the block that runs is not left to its walltime"


def test_blocks_that_were_given_back_say_nothing_against_the_executor(scheduler):
    scheduler.executor.scale_out_facade(4)
    scheduler.state_is(JobState.SCALED_IN, "0", "1", "2", "3")
    assert scheduler.reason_given_up() is None
    assert scheduler.executor.scale_out_facade(1) == ["4"]


@pytest.mark.slow
def test_a_block_knows_nothing_of_the_job_that_the_controller_runs_in(tmp_path, monkeypatch):
    (executor,) = load_parsl_config_from_card(SlurmCard(type="slurm", max_workers=1), tmp_path).executors
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\nenv | grep -e SLURM -e SRUN -e SBATCH | sort\n")
    sbatch.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("SLURM_MEM_PER_CPU", "SRUN_CPUS_PER_TASK", "SLURM_CONF", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "1")
    code, output, _ = executor.provider.execute_wait("sbatch script")
    assert (code, output) == (0, "SBATCH_ACCOUNT=1\nSLURM_CONF=1\n")


def test_an_executor_whose_jobs_stay_in_the_queue_is_told_of_once(tmp_path, monkeypatch):
    told, states = [], {}
    card = SlurmCard(type="slurm", max_workers=1)
    cluster = Cluster(card, tmp_path / "parsl_runinfo", notify=told.append)
    pool = Pool(card, card.label, tmp_path, tmp_path)
    monkeypatch.setattr(pool, "_executor", SimpleNamespace(provider=None, block_states=states))

    def look(num_looks):
        for _ in range(num_looks):
            cluster._tell_if_queued(pool)
        return len(told)

    assert look(100) == 0, "it has no task that could wait"
    pool._pending.add(Future())
    assert look(59) == 0
    assert look(100) == 1
    assert told == ["The executor `htex_slurm` waits for its scheduler to start a job; its tasks begin then."]
    states["0"] = JobStatus(JobState.RUNNING)
    assert look(100) == 1
    states["0"] = JobStatus(JobState.PENDING)  # preempted
    assert look(100) == 2


@pytest.mark.slow
def test_no_name_of_a_variable_is_run(tmp_path, monkeypatch):
    (executor,) = load_parsl_config_from_card(SlurmCard(type="slurm", max_workers=1), tmp_path).executors
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_;touch MARK;", "1")
    assert executor.provider.execute_wait("true")[0] == 0
    assert list(tmp_path.glob("MARK*")) == []


def test_compiled_programs_go_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "shared"))
    (executor,) = load_parsl_config_from_card(
        local_card(LocalExecutor(label="a")), tmp_path / "parsl_runinfo"
    ).executors
    assert f"export JAX_COMPILATION_CACHE_DIR={tmp_path}/shared" in executor.provider.worker_init.splitlines()


def test_local_card_to_parsl(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    card = local_card(LocalExecutor(label="htex64", max_workers=3, cores_per_worker=2.0, worker_init="export X=1"))
    (executor,) = load_parsl_config_from_card(card, tmp_path / "a" / "parsl_runinfo").executors
    assert executor.all_addresses == {"127.0.0.1"}
    assert executor.max_workers_per_node == 3
    lines = executor.provider.worker_init.splitlines()
    assert lines[0] == "unset JAX_ENABLE_X64"
    assert {"export OMP_NUM_THREADS=2", "export PJRT_NPROC=2", "export LAMBDA_HAT_EXECUTOR=htex64"} <= set(lines)
    assert f"export JAX_COMPILATION_CACHE_DIR={tmp_path}/a/cache/jax" in lines
    assert lines[-1] == "export X=1"


def test_gpus_of_this_machine_are_shared_by_workers(tmp_path):
    pools = (
        LocalExecutor(label="cpu", max_workers="auto"),
        LocalExecutor(label="gpu", available_accelerators=2),
        LocalExecutor(label="packed", available_accelerators=(3,), max_workers=3),
        LocalExecutor(label="given", available_accelerators=("0", "GPU-5a"), max_workers=4, memory_fraction=0.2),
    )
    cpu, gpu, packed, given = load_parsl_config_from_card(local_card(*pools), tmp_path).executors
    assert (cpu.max_workers_per_node >= 1, len(cpu.available_accelerators)) == (True, 0)
    assert (gpu.max_workers_per_node, gpu.available_accelerators) == (2, ["0,-1", "1,-1"])
    assert packed.available_accelerators == ["3,-1"] * 3
    assert given.available_accelerators == ["0,-1", "GPU-5a"] * 2
    fractions = [re.findall("MEM_FRACTION=(.*)", pool.provider.worker_init) for pool in (cpu, gpu, packed, given)]
    assert fractions == [[], [], ["0.250"], ["0.200"]]


@pytest.mark.nightly
@pytest.mark.usefixtures("workers_find_package")
def test_workers_that_share_gpus_are_spread_over_them(tmp_path, monkeypatch):
    nvidia_smi = tmp_path / "nvidia-smi"  # by whose count Parsl would pin all four to the first
    nvidia_smi.write_text("#!/bin/sh\necho GPU 0\necho GPU 1\n")
    nvidia_smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    seen, deadline = set(), time.monotonic() + 60
    pool = LocalExecutor(label="gpu", available_accelerators=2, max_workers=4)
    with Cluster(local_card(pool), tmp_path / "parsl_runinfo") as cluster:
        while len(seen) < 2 and time.monotonic() < deadline:
            seen.add(cluster.submit(os.getenv, "CUDA_VISIBLE_DEVICES", label="gpu").result(60))
    assert seen == {"0,-1", "1,-1"}


def test_pbs_card_to_parsl(tmp_path):
    card = PBSCard(
        type="pbs", queue="long", account="me", nodes_per_block=2, max_blocks=3, walltime="02:00:00", cores_per_node=16,
        mem_per_node=64, gpus_per_node=4, select_options="gpu_model=a100", scheduler_options_extra=("#PBS -V",),
    )  # fmt: skip
    assert capacity(card) == {"htex_pbs": 24}
    assert check_budget(card, Budget(hmc_sec=9000.0, trial_sec=60.0))[0].key == "execution.budget.hmc_sec"
    (executor,) = load_parsl_config_from_card(card, tmp_path).executors
    provider = executor.provider
    assert (provider.queue, provider.account, provider.walltime) == ("long", "me", "02:00:00")
    assert (provider.nodes_per_block, provider.cpus_per_node) == (2, 16)
    assert provider.select_options == "mem=64gb:ngpus=4:gpu_model=a100"
    assert provider.scheduler_options == "#PBS -V"
    assert (executor.label, executor.workers_per_node, len(executor.available_accelerators)) == ("htex_pbs", 4, 4)
    assert type(provider.launcher).__name__ == "MpiExecLauncher"
    assert provider.status_polling_interval == 15


KUBERNETES = KubernetesCard(
    type="kubernetes", image="i:1", address="controller.example", cores_per_node=4, mem_per_node=8, max_blocks=2,
    persistent_volumes=(Volume(claim="runs", path="/runs"),),
)  # fmt: skip


def test_kubernetes_card_to_parsl(tmp_path, monkeypatch):
    monkeypatch.setattr(kube, "_kubernetes_enabled", True)
    monkeypatch.setattr(kube, "config", SimpleNamespace(load_kube_config=lambda: None), raising=False)
    monkeypatch.setattr(kube, "client", SimpleNamespace(CoreV1Api=object), raising=False)
    assert capacity(KUBERNETES) == {"htex_kubernetes": 8}
    card = KUBERNETES.model_copy(update={"worker_init": 'export X=$$ Y="$(hostname)"'})
    (executor,) = load_parsl_config_from_card(card, tmp_path).executors
    provider = executor.provider
    assert provider.worker_init.splitlines()[-1] == 'export X=$$$$ Y="$$(hostname)"', "`$$` is a `$` in what pods run"
    assert (executor.all_addresses, executor.workers_per_node) == ({"controller.example"}, 4)
    assert executor.address == "0.0.0.0", "the interchange cannot be bound to a name"
    assert (provider.image, provider.max_cpu, provider.max_mem) == ("i:1", 4, "8Gi")
    assert provider.persistent_volumes == [("runs", "/runs")]
    assert provider.status_polling_interval == 15


def test_kubernetes_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(kube, "_kubernetes_enabled", False)
    with pytest.raises(ExecutionError, match="`pip install kubernetes`"):
        load_parsl_config_from_card(KUBERNETES, tmp_path)


@pytest.mark.slow
def test_a_card_is_taken_by_its_path_with_values_over_it(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text("type: slurm\nlabel: here\nmax_workers: 2\nwalltime: 01:00:00\n", encoding="utf-8")
    for card in (path, str(path)):
        config = load_parsl_config_from_card(card, tmp_path / "parsl", dotlist=["walltime=02:30:00"])
        assert [(executor.label, executor.provider.walltime) for executor in config.executors] == [("here", "02:30:00")]
    with pytest.raises(ConfigError, match="walltime: found '4h'"):
        load_parsl_config_from_card(path, tmp_path / "parsl", dotlist=["walltime=4h"])
    path.write_text("type: inline\n", encoding="utf-8")
    with pytest.raises(UsageError, match="of type `inline`"):
        load_parsl_config_from_card(path, tmp_path / "parsl")
