"""The configuration that a run keeps, read back."""

from __future__ import annotations

import pytest
import yaml

from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import LoadedFile, load_file
from lambda_hat.config.snapshot import parse_snapshot


@pytest.mark.parametrize("path", ["config/optuna/default.yaml", "config/experiments.yaml"])
def test_what_a_run_keeps_is_read_as_it_was_written(path):
    loaded = load_file(path, ("reference.max_relative_mcse=0.02",), local=True)
    assert isinstance(loaded, LoadedFile)
    read = parse_snapshot(yaml.safe_load(to_yaml(loaded.resolved)))
    assert type(read) is type(loaded.sections)
    assert read is not None
    assert read.entries == loaded.sections.entries
    assert read.reference == loaded.sections.reference
    assert [entry.title for entry in read.entries] == [entry.title for entry in loaded.sections.entries]


@pytest.mark.parametrize("values", [{}, {"problems": []}, {"problems": [{}], "methods": ["sgld"], "of_old": 1}])
def test_another_schema_is_no_error(values):
    assert parse_snapshot(values) is None
