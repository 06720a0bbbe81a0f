from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lambda_hat.artifacts.files import append_json_line, write_json_atomic
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, REFERENCE_JSON, Paths, RunContext

PROBLEM, STRAY_PROBLEM = "p_0123456789ab", "p_0123456789cc"
TOLD, IN_TABLE, STRAY = "r_aaaaaaaaaaaa", "r_bbbbbbbbbbbb", "r_cccccccccccc"


class Store:
    """A store with one run: two trials that are needed, one that is not, and what else a run has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Paths(root / "optuna" / "v1")
        with RunContext(self.paths) as context:
            context.save_config(json.dumps({"store": {"ttl_days": 30}}))
        for pid in (PROBLEM, STRAY_PROBLEM):
            folder = self.paths.problem_dir(pid)
            folder.mkdir()
            write_json_atomic(folder / REFERENCE_JSON, {"llc": 8.25, "se": 0.1, "is_certified": True})
        for rid in (TOLD, IN_TABLE, STRAY):
            self.add_trial(rid)
        append_json_line(self.paths.journal, {"op_code": 8, "user_attr": {"run_id": TOLD}})
        pq.write_table(pa.table({"run_id": [IN_TABLE], "llc_hat": [8.0]}), self.paths.trials_table)
        self.log = self.paths.parsl_dir / "htex64" / "000"
        self.log.mkdir(parents=True)
        (self.log / "parsl.log").write_text("words\n")
        (self.paths.cache_dir / "program").write_text("code")
        self.temporary = self.paths.trials_table.with_name(".x.parquet.1.ab.tmp")
        self.temporary.write_text("half")

    def add_trial(self, rid: str) -> Path:
        folder = self.paths.trial_dir(PROBLEM, "sgld", rid)
        folder.mkdir(parents=True)
        write_json_atomic(folder / MANIFEST_JSON, {"pid": PROBLEM})
        write_json_atomic(folder / METRICS_JSON, {"state": "COMPLETE", "llc_hat": 8.0, "se_hat": 0.2})
        return folder

    def grow_old(self, days: float) -> None:
        then = time.time() - 86_400 * days
        for path in self.root.rglob("*"):
            os.utime(path, (then, then))

    def names(self) -> set[str]:
        return {path.relative_to(self.paths.root).as_posix() for path in self.paths.root.rglob("*")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")
