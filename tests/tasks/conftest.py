"""A small problem with its reference, for trials of any method."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def quadratic_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quadratic problem in four dimensions whose reference is there."""
    from lambda_hat.config.explain import to_yaml
    from lambda_hat.config.problems import QuadraticProblem
    from lambda_hat.config.study import ReferenceSpec
    from lambda_hat.tasks import reference_task

    folder = tmp_path_factory.mktemp("problem")
    (folder / "problem.yaml").write_text(to_yaml(QuadraticProblem(dim=4, num_data=200).to_dict()), encoding="utf-8")
    assert reference_task(str(folder), ReferenceSpec(max_relative_mcse=0.03), 600.0).state == "COMPLETE"
    return folder
