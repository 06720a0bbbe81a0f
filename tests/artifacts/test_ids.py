"""Ids depend on what is meant, and on nothing else."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.artifacts.ids import canonical_json, derive_seed, problem_id, run_id
from lambda_hat.errors import InputError

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
plain_data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
mappings = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), scalars, max_size=6)


def reordered(obj):
    if isinstance(obj, dict):
        return {key: reordered(obj[key]) for key in reversed(obj)}
    return [reordered(value) for value in obj] if isinstance(obj, list) else obj


@given(mappings)
def test_order_of_keys_does_not_matter(obj):
    assert problem_id(obj) == problem_id(reordered(obj))


@given(scalars.filter(lambda value: not isinstance(value, str)))
def test_text_reads_back_equal(value):
    assert json.loads(canonical_json({"x": value}))["x"] == value


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_equal_numbers_have_equal_texts(value):
    assert canonical_json(value) == canonical_json(float(value))


@given(st.integers(), st.integers())
def test_unequal_integers_have_unequal_texts(a, b):
    assert (canonical_json(a) == canonical_json(b)) == (a == b)


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        ({"b": 1, "a": [1.0, 0.1, 1e-6]}, '{"a":[1,0.1,1e-06],"b":1}'),
        (True, "true"),
        (-0.0, "0"),
        (1e16, "1e+16"),
        ("γ", '"γ"'),
        ((1, 2), "[1,2]"),
    ],
)
def test_canonical_text(obj, text):
    assert canonical_json(obj) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(InputError, match=r"value\.a\.0: (nan|-?inf) cannot be part of an id"):
        problem_id({"a": [value]})


def test_other_objects_and_keys_are_refused():
    with pytest.raises(InputError, match="set cannot be part of an id"):
        canonical_json({"a": {1}})
    with pytest.raises(InputError, match="all keys must be text"):
        canonical_json({1: 2})


def test_ids_are_the_same_in_every_process():
    code = "from lambda_hat.artifacts.ids import *; print(problem_id({'b': 1.0, 'a': 'γ'}), derive_seed('a', 1))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert output == [problem_id({"a": "γ", "b": 1}), str(derive_seed("a", 1))]
    assert output[0] == "p_980fa81e0323"
    assert run_id({"a": "γ", "b": 1}) == "r_980fa81e0323"


def test_derived_seeds_differ():
    seeds = {derive_seed(seed, method, number) for seed in (0, 1) for method in ("sgld", "vi") for number in range(100)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)
