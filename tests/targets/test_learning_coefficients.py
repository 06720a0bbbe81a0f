from itertools import combinations, combinations_with_replacement, pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.errors import InputError
from lambda_hat.targets import aoyagi_coefficient, reduced_rank_coefficient
from lambda_hat.targets.learning_coefficients import lowest_rank_profile, profile_codimension

NETWORKS = [
    (widths, rank)
    for num_layers, most in ((3, 6), (4, 5), (5, 3))
    for widths in product(range(1, most + 1), repeat=num_layers)
    for rank in range(min(widths) + 1)
]


def coefficients_of_all_sets(widths, rank):
    """The formula for every set of layers that meets the conditions, by exact fractions of eight ℓ."""
    deltas = [width - rank for width in widths]
    found = set()
    for size in range(2, len(deltas) + 1):
        for chosen in combinations(range(len(deltas)), size):
            inside = [deltas[i] for i in chosen]
            outside = [deltas[i] for i in range(len(deltas)) if i not in chosen]
            ell, total = size - 1, sum(inside)
            if total < ell * max(inside):
                continue
            if outside and (max(inside) >= min(outside) or total >= ell * min(outside)):
                continue
            m = next(m for m in range(total + 1) if m * ell >= total)
            a = total - (m - 1) * ell
            pairs = (total**2 - sum(delta**2 for delta in inside)) / 2
            fixed = rank * (widths[0] + widths[-1]) - rank**2
            found.add(round(fixed / 2 + a * (ell - a) / (4 * ell) - (ell - 1) / (4 * ell) * total**2 + pairs / 2, 9))
    return found


def test_one_value_whatever_set_meets_the_conditions():
    for widths, rank in NETWORKS:
        assert coefficients_of_all_sets(widths, rank) == {round(aoyagi_coefficient(widths, rank), 9)}, (widths, rank)


def test_two_layers_are_reduced_rank_regression():
    for widths in product(range(1, 9), repeat=3):
        for rank in range(min(widths) + 1):
            assert aoyagi_coefficient(widths, rank) == reduced_rank_coefficient(*widths, rank), (widths, rank)


def test_it_is_half_the_smallest_codimension_of_all_rank_profiles():
    for widths, rank in NETWORKS:
        profiles = [
            profile
            for profile in combinations_with_replacement(range(rank, widths[-1] + 1), len(widths) - 2)
            if all(q <= width for q, width in zip(profile, widths[1:-1], strict=True))
        ]
        lowest = min(profile_codimension(widths, rank, profile) for profile in profiles)
        assert lowest == pytest.approx(2 * aoyagi_coefficient(widths, rank)), (widths, rank)
        assert profile_codimension(widths, rank, lowest_rank_profile(widths, rank)) == lowest


def test_known_values():
    assert aoyagi_coefficient((10, 10, 10, 10), 4) == 44
    assert lowest_rank_profile((10, 10, 10, 10), 4) == (6, 8)
    assert profile_codimension((10, 10, 10, 10), 4, (4, 4)) == 100  # where only the last layer is not of full rank
    assert aoyagi_coefficient((1, 1, 1), 1) == 0.5
    assert aoyagi_coefficient((1, 1, 1), 0) == 0.5  # w₁²w₂²
    assert reduced_rank_coefficient(5, 3, 5, 2) == 9.5


NETWORK = st.lists(st.integers(1, 12), min_size=3, max_size=6).flatmap(
    lambda widths: st.tuples(st.just(tuple(widths)), st.integers(0, min(widths)))
)


@given(network=NETWORK, data=st.data())
def test_neither_direction_nor_order_of_hidden_layers_matters(network, data):
    widths, rank = network
    value = aoyagi_coefficient(widths, rank)
    assert aoyagi_coefficient(widths[::-1], rank) == value
    hidden = data.draw(st.permutations(widths[1:-1]))
    assert aoyagi_coefficient((widths[0], *hidden, widths[-1]), rank) == value


@given(network=NETWORK)
def test_bounds_and_monotony(network):
    widths, rank = network
    value = aoyagi_coefficient(widths, rank)
    # Never below what fixes a matrix of this rank, never above half the parameters of the product or of the network.
    assert rank * (widths[0] + widths[-1] - rank) / 2 <= value <= widths[0] * widths[-1] / 2
    assert value <= sum(a * b for a, b in pairwise(widths)) / 2
    if rank < min(widths):
        assert value <= aoyagi_coefficient(widths, rank + 1)
    for layer in range(len(widths)):
        wider = (*widths[:layer], widths[layer] + 1, *widths[layer + 1 :])
        assert value <= aoyagi_coefficient(wider, rank)


@pytest.mark.parametrize(
    ("widths", "rank", "message"),
    [
        ((3, 3), 1, r"found widths \(3, 3\), expected inputs, hidden layers and outputs, each at least 1"),
        ((3, 0, 3), 0, r"found widths \(3, 0, 3\), expected inputs, hidden layers and outputs, each at least 1"),
        ((3, 2, 3), 3, "found rank 3, expected one from 0 to 2, the smallest of the widths"),
        ((3, 2, 3), -1, "found rank -1, expected one from 0 to 2"),
    ],
)
def test_what_is_no_network_is_refused(widths, rank, message):
    with pytest.raises(InputError, match=message):
        aoyagi_coefficient(widths, rank)
