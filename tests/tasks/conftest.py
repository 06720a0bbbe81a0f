"""A small problem with its reference, for trials of any method."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import QuadraticProblem
from lambda_hat.config.study import ReferenceSpec
from tests.conftest import HANGING

QUADRATIC = QuadraticProblem(dim=4, num_data=200)
SPEC = ReferenceSpec(num_chains=4, max_relative_mcse=0.03)


@pytest.fixture(scope="session")
def quadratic_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quadratic problem in four dimensions with its reference; a test that changes it takes a copy."""
    from lambda_hat.tasks import reference_task

    folder = tmp_path_factory.mktemp("problem")
    (folder / "problem.yaml").write_text(to_yaml(QUADRATIC.to_dict()), encoding="utf-8")
    assert reference_task(str(folder), SPEC, HANGING).state == "COMPLETE"
    return folder
