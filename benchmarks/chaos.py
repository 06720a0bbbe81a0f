"""Kills a real study again and again and resumes it: `python benchmarks/chaos.py FOLDER [--kills 20] [--seed 0]`.

A study of two methods on a small problem runs on two local executors. At random moments one of its processes is killed
with SIGKILL: in turn the controller, a worker, a manager and an interchange. After a controller was killed the command
is given again with `--resume`; the rest must be survived by the running command. A study that ends before its last
kill is given more trials. In the end everything must be there:
every trial once, its files whole and in the table, no finished trial run twice, journal and pickles equal to the table,
and no process left over. Prints what happened, writes `chaos.json`, and ends with code 1 if anything is amiss.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
import yaml
from optuna.storages.journal import JournalFileBackend

from lambda_hat.records.tables import read_frame

KINDS = ("controller", "worker", "manager", "interchange")
MARK = "LAMBDA_HAT_CHAOS"
TRIALS_PER_KILL = 16  # so that there is always something left to kill
MEAN_DELAY = 4.0  # seconds between a sign of progress and the next kill
PATIENCE = 300.0  # seconds without any progress, or until processes are gone, that are a failure

STUDY: dict[str, Any] = {
    "problems": [{"target": "quadratic", "seed": 3, "overrides": {"dim": 4, "num_data": 200}}],
    "methods": ["sgld", "mclmc"],
    "optuna": {
        "concurrency": {"batch_size": 2},
        "sampler": {"n_startup_trials": 5},
        "pruner": {"n_startup_trials": 5},
        "max_failed_fraction": 1.0,
    },
    "search_space": {
        "sgld": {
            "eta0": {"dist": "float", "low": 1e-4, "high": 1e-3, "log": True},
            "steps": {"dist": "int", "low": 20_000, "high": 60_000, "step": 5_000},
        },
        "mclmc": {
            "L": {"dist": "float", "low": 1.0, "high": 2.0},
            "steps": {"dist": "int", "low": 2000, "high": 6000, "step": 500},
        },
    },
    "confirm": {"top_k": 0},
    "execution": {"budget": {"hmc_sec": 120, "trial_sec": 60}},
}
CARD: dict[str, Any] = {
    "type": "local",
    "retries": 5,
    "executors": [
        {"label": label, "max_workers": 1, "worker_init": f"export JAX_ENABLE_X64={x64}"}
        for label, x64 in (("htex64", "true"), ("htex32", "false"))
    ],
}


@dataclass
class Record:
    """What was done to the study, and what it took."""

    num_trials: int = 0
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    num_commands: int = 0
    num_attempts: int = 0  # of trials; more than there are trials where some were cut short
    max_attempts: int = 0
    seconds: float = 0.0
    seconds_to_vanish: list[float] = field(default_factory=list)  # of all processes, after a controller was killed
    num_failed: int = 0  # trials that lost their worker once too often
    faults: list[str] = field(default_factory=list)


class Chaos:
    """One study, its command and its killer."""

    def __init__(self, folder: Path, num_kills: int, seed: int) -> None:
        self.folder = folder
        self.root = folder / "runs" / "optuna" / "v1"
        self.num_kills = num_kills
        self.random = random.Random(seed)
        self.mark = uuid.uuid4().hex
        self.record = Record(num_trials=max(10, TRIALS_PER_KILL * num_kills // len(STUDY["methods"])))
        self.log = folder / "chaos.log"
        self.seen: set[psutil.Process] = set()  # descendants of controllers: an interchange hides its environment

    def run(self) -> Record:
        """Kill, resume, and look at what is left."""
        start = time.monotonic()
        (self.folder / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
        (self.folder / "card.yaml").write_text(yaml.safe_dump(CARD), encoding="utf-8")
        kinds = [KINDS[k % len(KINDS)] for k in range(self.num_kills)]
        command = self.start()
        for kind in kinds:
            while not self.strike(kind, command):
                self.finish(command)
                self.record.num_trials += TRIALS_PER_KILL
                command = self.start("--resume")
            if self.record.faults:
                break
            if kind == "controller":
                command.wait()
                self.wait_until_nothing_is_left()
                command = self.start("--resume")
        self.finish(command)
        self.record.seconds = time.monotonic() - start
        self.check()
        return self.record

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The study's command, as a user gives it."""
        self.record.num_commands += 1
        words = ["-m", "lambda_hat", "workflow", "optuna", "-v", "--config", "study.yaml", "--parsl-card", "card.yaml"]
        words += ["--set", f"optuna.max_trials_per_method={self.record.num_trials}"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *words, *arguments],
                cwd=self.folder,
                env=os.environ | {MARK: self.mark},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, command: subprocess.Popen[bytes]) -> None:
        """Let the command end of itself."""
        if (code := command.wait(timeout=3600)) != 0:
            self.fault(f"a command ended with code {code}")
        self.wait_until_nothing_is_left()

    def strike(self, kind: str, command: subprocess.Popen[bytes]) -> bool:
        """Kill one process of a kind amid progress, or find a fault; False where the study ends before."""
        return (self.wait_for_progress(command) is None and self.kill(kind, command)) or bool(self.record.faults)

    def wait_for_progress(self, command: subprocess.Popen[bytes]) -> int | None:
        """Until a file of the study changes, and a random time more; the exit code if the command ends before."""
        before, deadline = self.signs(), time.monotonic() + PATIENCE
        while self.signs() == before:
            self.remember(command)
            if (code := command.poll()) is not None:
                return code
            if time.monotonic() > deadline:
                self.fault(f"nothing moved for {PATIENCE:g} s")
                return None
            time.sleep(0.2)
        time.sleep(min(5 * MEAN_DELAY, self.random.expovariate(1 / MEAN_DELAY)))
        self.remember(command)
        return command.poll()

    def remember(self, command: subprocess.Popen[bytes]) -> None:
        """Whom the controller has started by now."""
        with suppress(psutil.NoSuchProcess):
            self.seen |= set(psutil.Process(command.pid).children(recursive=True))

    def signs(self) -> int:
        """Bytes of progress and number of results."""
        lines = self.root.glob("*/**/progress.jsonl")
        return sum(path.stat().st_size for path in lines) + sum(1 for _ in self.root.glob("trials/**/metrics.json"))

    def kill(self, kind: str, command: subprocess.Popen[bytes]) -> bool:
        """Kill one process of a kind, if there is one."""
        victims = [command.pid] if kind == "controller" else [process.pid for process in self.processes(kind)]
        if not victims and self.has_ended(command):
            return False
        if not victims:
            self.fault(f"there was no {kind} to kill")
            return False
        os.kill(self.random.choice(victims), signal.SIGKILL)
        self.record.kills[kind] += 1
        return True

    def has_ended(self, command: subprocess.Popen[bytes]) -> bool:
        """Whether the command ends soon of itself: its executors are gone already."""
        with suppress(subprocess.TimeoutExpired):
            command.wait(timeout=PATIENCE)
        return command.poll() is not None

    def processes(self, kind: str | None = None) -> list[psutil.Process]:
        """Processes that the study started, of one kind or all."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                is_ours = process in self.seen or process.environ().get(MARK) == self.mark
                if is_ours and process.status() != psutil.STATUS_ZOMBIE and kind in (None, kind_of(process)):
                    found.append(process)
        return found

    def wait_until_nothing_is_left(self) -> None:
        start = time.monotonic()
        while (left := self.processes()) and time.monotonic() < start + PATIENCE:
            time.sleep(0.1)
        seconds = time.monotonic() - start
        self.record.seconds_to_vanish.append(round(seconds, 1))
        if left:
            names = ", ".join(" ".join(process.cmdline())[:80] for process in left if process.is_running())
            self.fault(f"processes were left for {seconds:.0f} s: {names}")
            for process in left:
                process.kill()

    def fault(self, text: str) -> None:
        self.record.faults.append(text)

    def check(self) -> None:
        """Table, files, journal and pickles say the same, and every trial is there once."""
        path = self.root / "tables" / "optuna_trials.parquet"
        if not path.exists():
            self.fault("there is no table")
            return
        table = read_frame(path)
        rows = {row["run_id"]: row for row in table.to_dict("records")}
        expected = self.record.num_trials * len(STUDY["methods"])
        if not len(rows) == len(table) == expected:
            self.fault(f"{len(table)} rows with {len(rows)} ids in the table, {expected} expected")
        self.record.num_failed = int((table["state"] == "FAIL").sum())
        for method, numbers in table.groupby("method")["number"]:
            if sorted(numbers) != list(range(self.record.num_trials)):
                self.fault(f"the trials of {method} are not numbered from 0 without a gap")
        self.check_files(rows)
        backend = JournalFileBackend(str(self.root / "studies" / "optuna.journal"))
        storage = optuna.storages.JournalStorage(backend)
        for path in sorted((self.root / "studies").glob("*.pkl")):
            in_journal = optuna.load_study(study_name=path.stem, storage=storage)
            for name, study in (("journal", in_journal), ("pickle", pickle.loads(path.read_bytes()))):
                for trial in study.trials:
                    row = rows.get(trial.user_attrs.get("run_id", ""))
                    if row is None or (trial.state.name, trial.number) != (row["state"], row["number"]):
                        self.fault(
                            f"{path.stem}: trial {trial.number} of the {name} is not in the table as it is there"
                        )
                    elif trial.state.name == "COMPLETE" and trial.value != row["objective"]:
                        self.fault(f"{path.stem}: trial {trial.number} has another value in the {name}")

    def check_files(self, rows: dict[str, dict[str, Any]]) -> None:
        """Every result is whole and in the table, and no trial was begun after it had ended."""
        paths = list(self.root.glob("trials/*/*/*/metrics.json"))
        if len(paths) != len(rows):
            self.fault(f"{len(paths)} metrics.json for {len(rows)} rows")
        for path in paths:
            rid = path.parent.name
            metrics, row = json.loads(path.read_bytes()), rows.get(rid)
            if row is None or (metrics["state"], metrics.get("llc_hat")) != (row["state"], none(row["llc_hat"])):
                self.fault(f"{rid}: metrics.json is not what the table says")
        for path in self.root.glob("trials/*/*/*/progress.jsonl"):
            events = [event for event in events_of(path) if event in ("started", "ended")]
            num_attempts = events.count("started")
            self.record.num_attempts += num_attempts
            self.record.max_attempts = max(self.record.max_attempts, num_attempts)
            if "started" in events[events.index("ended") :] if "ended" in events else False:
                self.fault(f"{path.parent.name} was run again after it had ended")


def kind_of(process: psutil.Process) -> str:
    """What a process of the study is."""
    words, parent = process.cmdline(), process.parent()
    if not words:  # it has just ended
        return "other"
    if "HTEX interchange" in words[0] or any(word.endswith("lifeline.py") for word in words):
        return "interchange"
    if is_manager(words):
        return "manager"
    if "spawn_main" in " ".join(words) and parent is not None and is_manager(parent.cmdline()):
        return "worker"
    return "other"


def is_manager(words: list[str]) -> bool:
    """Whether a command line is that of Python with Parsl's pool of workers."""
    return "lambda_hat.execution.parsl.manager" in words


def events_of(path: Path) -> Iterator[str]:
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line).get("event", "")
        except ValueError:  # what a killed worker left
            continue


def none(value: Any) -> Any:
    """Pandas' missing value as None."""
    return None if value is None or value != value or str(value) == "<NA>" else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder for the study")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    record = Chaos(options.folder.resolve(), options.kills, options.seed).run()
    (options.folder / "chaos.json").write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    total = Counter(record.kills).total()
    print(f"{total} kills: {', '.join(f'{count} {kind}' for kind, count in record.kills.items())}")
    print(f"{record.num_commands} commands, {record.seconds:.0f} s")
    num = record.num_trials * len(STUDY["methods"])
    print(f"{num} trials, {record.num_attempts} attempts, at most {record.max_attempts} of one trial")
    print(f"{record.num_failed} trials lost their worker more often than the card's `retries`")
    print(f"processes gone after at most {max(record.seconds_to_vanish):.1f} s")
    print("\n".join(record.faults) or "nothing is amiss")
    return 1 if record.faults else 0


if __name__ == "__main__":
    sys.exit(main())
