"""Numbers as people read them never say another thing than the numbers themselves."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_hat.formatting import estimate, listed, number, sentence

SPECS = [".2f", ".3f", ".4g", "+.1f", "+.1%", ",.0f"]


@given(st.floats(1e-6, 1e6), st.sampled_from([0.7, 1.01, 1.05, 2.0, 400.0]), st.sampled_from(SPECS))
@example(0.7003, 0.7, ".2f")
@example(0.6999, 0.7, ".2f")
@example(-2.04, 2.0, "+.1f")
def test_a_number_is_never_rounded_across_its_bound(value, bound, spec):
    text = number(value, spec, bound)
    shown = abs(float(text.replace(",", "").rstrip("%"))) / (100 if text.endswith("%") else 1)
    if spec != ",.0f" or abs(value - bound) > 1:  # whole numbers have no digits to add
        assert (shown > bound) == (abs(value) > bound)
        assert (shown < bound) == (abs(value) < bound)


@pytest.mark.parametrize(
    ("value", "spec", "bound", "text"),
    [
        (0.7003, ".2f", 0.7, "0.7003"),
        (0.7, ".2f", 0.7, "0.70"),
        (0.79, ".2f", 0.7, "0.79"),
        (1.0496, ".3f", 1.05, "1.0496"),
        (2.04, "+.1f", 2.0, "+2.04"),
        (-2.04, "+.1f", 2.0, "-2.04"),
        (399.96, ".4g", 400.0, "399.96"),
        (-0.0004, "+.1%", None, "0.0%"),
        (0.0004, "+.1%", None, "0.0%"),
        (-0.006, "+.1%", None, "-0.6%"),
        (None, ".2f", 0.7, "–"),
        (float("inf"), ".2f", 0.7, "–"),
    ],
)
def test_numbers(value, spec, bound, text):
    assert number(value, spec, bound) == text


def test_a_value_that_is_zero_within_its_error_has_no_sign():
    assert estimate(-0.001, 0.12) == "0.00 ± 0.12"
    assert estimate(-0.31, 0.12) == "-0.31 ± 0.12"


def test_words():
    assert [listed(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert [sentence(text) for text in ("so", "so.", "so?")] == ["so.", "so.", "so?"]
