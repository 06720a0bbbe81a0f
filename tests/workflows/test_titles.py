"""What the live table calls its lines."""

from __future__ import annotations

import pytest

from lambda_hat.workflows.run import lane_title


@pytest.mark.parametrize(
    ("lane", "alone", "among_others"),
    [
        ("p_1", "mlp", "seed 1"),
        ("p_1:sgld", "sgld", "sgld on seed 1"),
        ("p_1:sgld:confirm", "sgld, confirming", "sgld on seed 1, confirming"),
        ("p_1:sgld:across", "sgld, on all problems", "sgld on seed 1, on all problems"),
        ("p_3:sgld", "sgld", "sgld on p_3"),
    ],
)
def test_a_lane_is_named_by_its_problem_unless_there_is_one_only(lane, alone, among_others):
    assert lane_title(lane, {"p_1": "mlp"}) == alone
    assert lane_title(lane, {"p_1": "seed 1", "p_2": "seed 2"}) == among_others
