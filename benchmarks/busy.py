"""Whether a study loses anything on a busy machine: `python benchmarks/busy.py FOLDER [--runs N] [--processes M]`.

Runs the quick start N times, each time in a new place, beside M processes that never rest. Prints, and writes to
`busy.json`, how each run ended, how many executors and workers were lost, how many trials failed, and where its time
went. It ends with exit code 1 unless all went well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.paths import Paths
from lambda_hat.records.event import Stalled, read_commands
from lambda_hat.records.rows import TrialRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import read_table

CONFIG = Path(__file__).parents[1] / "config" / "optuna" / "quickstart.yaml"
COLUMNS = ("exit_code", "seconds", "executors_lost", "retried", "num_failed", "num_trials", "compile_sec", "sample_sec")
RESTLESS = "while True: pass"


@contextmanager
def restless(num_processes: int) -> Iterator[None]:
    """So many processes that never rest, while the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", RESTLESS]) for _ in range(num_processes)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(folder: Path, number: int, sets: list[str]) -> dict[str, Any]:
    """One study in a place of its own, and what became of it."""
    words = ["--set", f"store.root={folder}", "--set", f"store.namespace=busy-{number}"]
    words += [word for text in sets for word in ("--set", text)]
    command = [sys.executable, "-m", "lambda_hat", "workflow", "optuna", "--config", str(CONFIG), "--local", *words]
    started = time.monotonic()
    with (folder / f"busy-{number}.log").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, check=False, stdout=log, stderr=subprocess.STDOUT).returncode
    paths = Paths(folder / f"busy-{number}" / "v1")
    rows = read_table(paths.trials_table, TrialRow)
    told = [line for command in read_commands(paths.events) for line in command.lines]
    return {
        "exit_code": code,
        "seconds": round(time.monotonic() - started, 1),
        "executors_lost": (folder / f"busy-{number}.log").read_text(encoding="utf-8").count(" is lost: "),
        "stalled": sum(isinstance(line, Stalled) for line in told),
        "retried": sum(getattr(line, "kind", "") == "retried" for line in told),
        "num_failed": sum(row.state is State.FAIL for row in rows),
        "num_trials": len(rows),
        "compile_sec": round(sum(row.compile_sec or 0.0 for row in rows), 1),
        "sample_sec": round(sum(row.sample_sec or 0.0 for row in rows), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--processes", type=int, default=6, help="that never rest")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    print("run  " + "  ".join(COLUMNS))
    with restless(arguments.processes):
        for number in range(arguments.runs):
            found.append(run(folder, number, arguments.sets))
            print(f"{number:3}  " + "  ".join(f"{found[-1][name]:>{len(name)}}" for name in COLUMNS), flush=True)
            (folder / "busy.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    bad = ("exit_code", "executors_lost", "retried", "num_failed")
    return int(any(outcome[name] for outcome in found for name in bad))


if __name__ == "__main__":
    sys.exit(main())
