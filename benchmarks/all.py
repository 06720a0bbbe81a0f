"""The short forms of the benchmarks with one command: `python benchmarks/all.py FOLDER [--only NAME ...]`.

Runs one after the other, each in a process and a folder of its own with one thread; those that only draw figures of
accuracy, or last longer than minutes in any form, are left out. Prints one table, every line of each under its name;
writes FOLDER/all.json with what each printed and the JSON that it wrote. Its exit code is 1 if any failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Arguments that follow the folder of each one's own.
COMMANDS: dict[str, list[str]] = {
    "sgld": ["--quick"],
    "warm": ["--quick"],
    "gradient": ["--quick"],
    "growth": ["--quick"],
    "packs": ["--quick", "--size", "2"],
    "bias": ["--quick"],
    "reference": ["small-small-_null:0.1", "--seconds", "4"],
    "scaling": ["--case", "tpe 2 x 30"],
    "scheduler": ["--seconds", "0.5", "--trials", "4", "--workers", "2"],
    "memory": ["--trials", "60"],
}


def run(name: str, folder: Path) -> dict[str, Any]:
    """What one script printed and wrote, and how long it took."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / f"{name}.py"), str(folder), *COMMANDS[name]]
    start = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1", "NPROC": "1"}
    )
    return {
        "returncode": done.returncode,
        "seconds": time.monotonic() - start,
        "printed": done.stdout.splitlines(),
        "errors": done.stderr.splitlines()[-20:] if done.returncode else [],
        "results": {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), metavar="NAME")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "time": time.strftime("%Y-%m-%d"),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("jax", "blackjax", "optuna", "parsl", "numpy")},
    }
    results: dict[str, Any] = {}
    for name in options.only:
        result = results[name] = run(name, options.folder / name)
        for line in result["printed"] or result["errors"][-1:]:
            print(f"{name:10} {line}", flush=True)
        print(f"{name:10} {'done' if result['returncode'] == 0 else 'FAILED'} in {result['seconds']:.0f} s", flush=True)
        text = json.dumps({**machine, "benchmarks": results}, indent=2) + "\n"
        (options.folder / "all.json").write_text(text, encoding="utf-8")
    sys.exit(any(result["returncode"] for result in results.values()))


if __name__ == "__main__":
    main()
