"""What the search is worth beside what was known before it."""

import pytest

from lambda_hat.records.state import State
from lambda_hat.report.summary import preset_text
from tests.report.conftest import trial_row

PRESET = {"run_id": "r_1", "objective": 0.5, "origin": "preset"}
FOUND = {"run_id": "r_2", "objective": 0.1, "origin": "search"}


@pytest.mark.parametrize(
    ("trials", "text"),
    [
        ([PRESET, FOUND], "; objective 0.1, the preset's 0.5"),
        ([PRESET, FOUND | {"objective": 0.6}], "; the search found nothing better than the preset"),
        ([PRESET, FOUND | {"objective": 0.0}], "; objective 0, the preset's 0.5"),
        (
            [PRESET | {"objective": 0.0, "violation": 0.2}, FOUND],
            "; objective 0.1, the preset's 0, which breaks a gate",
        ),
        ([PRESET | {"state": State.FAIL, "objective": None}, FOUND], "; the preset failed"),
        ([PRESET | {"state": State.PRUNED}, FOUND], "; the preset was pruned"),
        ([FOUND], ""),
        ([PRESET | {"state": State.FAIL}], ""),
        ([], ""),
    ],
)
def test_the_best_trial_is_compared_with_the_preset(trials, text):
    assert preset_text([trial_row(**values) for values in trials]) == text
