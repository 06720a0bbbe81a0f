import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
import yaml

from lambda_hat.config.card import LocalCard, LocalExecutor
from lambda_hat.errors import ExecutionError, ExecutorLostError, RunStateError, WorkerLostError
from lambda_hat.execution.parsl.cluster import SELECTED_CARD_YAML, Cluster
from lambda_hat.execution.parsl.pool import Pool
from tests.conftest import HANGING, wait_until

CARD = LocalCard(
    executors=(
        LocalExecutor(label="htex64", max_workers=1, worker_init="export JAX_ENABLE_X64=true"),
        LocalExecutor(label="htex32", max_workers=1, worker_init="export JAX_ENABLE_X64=false"),
    )
)
ONE_POOL = LocalCard(executors=(LocalExecutor(label="only", max_workers=1),))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "parsl_runinfo"


@pytest.fixture(scope="module")
def cluster(run_dir, workers_find_package):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PJRT_NPROC", "7")  # the controller's is not the workers'
        with Cluster(CARD, run_dir) as running:
            yield running


def ask(cluster, task, *args, label="htex64"):
    return cluster.submit(task, *args, label=label).result(HANGING)


@pytest.mark.slow
@pytest.mark.parametrize(("label", "is_x64"), [("htex64", "true"), ("htex32", "false")])
def test_tasks_run_where_they_were_sent(cluster, label, is_x64):
    assert ask(cluster, os.getenv, "LAMBDA_HAT_EXECUTOR", label=label) == label
    assert ask(cluster, os.getenv, "JAX_ENABLE_X64", label=label) == is_x64
    assert ask(cluster, os.getenv, "PJRT_NPROC", label=label) == "1"


def test_labels_and_pools(cluster):
    assert cluster.labels == ("htex64", "htex32")
    pids = {ask(cluster, os.getpid, label=label) for label in cluster.labels}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_worker_keeps_its_memory_between_tasks(cluster):
    ask(cluster, sys.setrecursionlimit, 4321)
    assert ask(cluster, sys.getrecursionlimit) == 4321
    assert ask(cluster, sys.getrecursionlimit, label="htex32") != 4321


def test_error_of_a_task_comes_back_as_it_is(cluster):
    with pytest.raises(ValueError, match=r"invalid literal for int\(\) with base 10: 'x'"):
        ask(cluster, int, "x")


def test_unknown_label_fails_at_once(cluster):
    with pytest.raises(ExecutionError, match=r"No executor is called `htex16`; there are htex64, htex32\."):
        cluster.submit(os.getpid, label="htex16")


@pytest.mark.slow
def test_lost_worker_is_reported_and_replaced(cluster):
    before = ask(cluster, os.getpid, label="htex32")
    with pytest.raises(WorkerLostError, match="The worker on `htex32` was lost"):
        ask(cluster, os._exit, 3, label="htex32")
    assert ask(cluster, os.getpid, label="htex32") != before


def test_card_is_saved_and_console_stays_quiet(cluster, run_dir, capfd):
    assert yaml.safe_load((run_dir / SELECTED_CARD_YAML).read_text()) == CARD.to_dict()
    assert (run_dir / "htex64" / "000" / "parsl.log").stat().st_size > 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_no_process_pays_for_parsls_database(cluster):
    assert ask(cluster, eval, "'sqlalchemy' in __import__('sys').modules") is False
    code = "import lambda_hat.execution.parsl.cluster, sys; print('sqlalchemy' in sys.modules); import sqlalchemy"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n", "and it can still be had"


def test_a_linked_folder_of_executors_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(RunStateError, match="leads out of the run's folder"):
        Cluster(ONE_POOL.model_copy(update={"run_dir": "elsewhere"}), tmp_path / "run" / "parsl_runinfo")


def test_submitting_needs_an_open_cluster(tmp_path):
    with pytest.raises(ExecutionError, match="only inside the cluster's `with` block"):
        Cluster(CARD, tmp_path).submit(os.getpid, label="htex64")


@pytest.fixture
def busy(tmp_path, monkeypatch):
    """Keeps a worker busy for ever; from then on it has begun, and the cluster has looked at its processes."""
    looks = []

    def watch(pool, watch=Pool.watch):
        watch(pool)
        looks.append(pool.label)

    monkeypatch.setattr(Pool, "watch", watch)

    def busy(cluster, label):
        begun = tmp_path / "begun"
        nap = cluster.submit(exec, f"import time; open({str(begun)!r}, 'w').close(); time.sleep(10**6)", label=label)
        wait_until(begun.exists)
        looks.clear()
        wait_until(lambda: looks.count(label) >= 2)  # the first may have been under way
        return nap

    return busy


@pytest.mark.nightly
@pytest.mark.usefixtures("workers_find_package")
def test_lost_manager_is_replaced_and_its_busy_worker_ends(tmp_path, busy):
    with Cluster(ONE_POOL, tmp_path) as cluster:
        worker = psutil.Process(ask(cluster, os.getpid, label="only"))
        nap = busy(cluster, "only")
        manager = worker.parent()
        helpers = manager.children(recursive=True)
        manager.kill()
        with pytest.raises(WorkerLostError, match="The worker on `only` was lost"):
            nap.result(HANGING)
        assert not worker.is_running(), "it would go on writing to a trial that is given away"
        assert ask(cluster, os.getpid, label="only") != worker.pid
    wait_until(lambda: not any(helper.is_running() for helper in helpers))


@pytest.mark.nightly
@pytest.mark.usefixtures("workers_find_package")
def test_lost_interchange_costs_its_tasks_and_is_started_again(tmp_path, busy):
    of_others = set(psutil.Process().children()) | set(threading.enumerate())
    messages = []
    with Cluster(CARD, tmp_path, notify=messages.append) as cluster:
        other = ask(cluster, os.getpid, label="htex64")
        before = ask(cluster, os.getpid, label="htex32")
        nap = busy(cluster, "htex32")
        worker = psutil.Process(before)
        children = set(psutil.Process().children()) - of_others
        interchanges = [p for p in children if re.search("lifeline.py|interchange", str(p.cmdline()))]
        (its_own,) = [p for p in interchanges if any("htex32" in file.path for file in p.open_files())]
        its_own.kill()
        with pytest.raises(ExecutorLostError, match="its interchange ended with code -9"):
            nap.result(HANGING)
        assert ask(cluster, os.getpid, label="htex32") != before
        assert not worker.is_running(), "it would go on writing to a trial that is given away"
        assert ask(cluster, os.getpid, label="htex64") == other, "another executor is not touched"
        (message,) = messages
        assert re.match(r"The executor `htex32` is lost: its interchange ended .* It is started again\.", message)
    assert not [thread for thread in set(threading.enumerate()) - of_others if thread.name == "cluster-watch"]
    assert not set(psutil.Process().children()) - of_others


@pytest.mark.nightly
@pytest.mark.usefixtures("workers_find_package")
def test_an_executor_whose_worker_hangs_is_given_up_and_replaced(tmp_path, busy):
    with Cluster(ONE_POOL, tmp_path) as cluster:
        worker = psutil.Process(ask(cluster, os.getpid, label="only"))
        nap = busy(cluster, "only")
        worker.suspend()
        assert cluster.restart("only", "nothing moved on it for 600 s")
        with pytest.raises(ExecutorLostError, match="nothing moved on it for 600 s"):
            nap.result(0)
        assert ask(cluster, os.getpid, label="only") != worker.pid
        assert not worker.is_running()


@pytest.mark.nightly
@pytest.mark.usefixtures("workers_find_package")
def test_an_executor_that_does_no_task_between_its_losses_is_not_started_for_ever(tmp_path):
    with Cluster(ONE_POOL, tmp_path) as cluster:
        for _ in range(4):
            cluster.submit(time.sleep, 600, label="only")
            cluster.restart("only", "on purpose")
        with pytest.raises(ExecutionError, match="The executor `only` is lost: on purpose"):
            cluster.submit(os.getpid, label="only")


@pytest.mark.nightly
@pytest.mark.usefixtures("workers_find_package")
def test_managers_are_replaced_as_often_as_they_are_lost(tmp_path):
    with Cluster(ONE_POOL, tmp_path) as cluster:
        for _ in range(5):  # more than the failures in a row that end an executor which cannot start
            with suppress(WorkerLostError):  # it was sent to the manager that is gone
                psutil.Process(ask(cluster, os.getpid, label="only")).parent().kill()
        with suppress(WorkerLostError):
            ask(cluster, os.getpid, label="only")
        assert ask(cluster, os.getpid, label="only")


@pytest.mark.nightly
@pytest.mark.usefixtures("workers_find_package")
def test_workers_that_cannot_start_are_an_error_and_no_wait(tmp_path):
    card = LocalCard(executors=(LocalExecutor(label="only", max_workers=1, worker_init="exit 7"),))
    with Cluster(card, tmp_path) as cluster:
        with pytest.raises(WorkerLostError, match="the last with exit code 7: no output"):
            ask(cluster, os.getpid, label="only")
        with pytest.raises(ExecutionError, match="The executor `only` is lost"):
            cluster.submit(os.getpid, label="only")


@pytest.mark.slow
@pytest.mark.usefixtures("workers_find_package")
def test_unfinished_tasks_do_not_wait_for_ever(tmp_path):
    with Cluster(ONE_POOL, tmp_path) as cluster:
        nap = cluster.submit(time.sleep, 600, label="only")
    with pytest.raises(ExecutionError, match="shut down before the task ended"):
        nap.result(0)
