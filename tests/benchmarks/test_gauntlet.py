"""The gauntlet's truths are what independent integrals give; those of its problems that are hardest are passed."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def problems() -> Iterator[Any]:
    """The module of the problems, which lies beside the other scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import gauntlet_problems

        yield gauntlet_problems


@pytest.fixture(scope="module")
def gauntlet(problems: Any) -> Any:
    import gauntlet

    return gauntlet


@pytest.fixture(scope="module")
def fixed(problems: Any) -> dict[str, Any]:
    return {problem.name: problem for problem in problems.fixed_problems()}


def mean_on_a_line(potential: Any, localization: float, low: float, high: float, points: list[float]) -> float:
    """E U by adaptive quadrature, piece by piece."""

    def density(x: float) -> float:
        return math.exp(-potential(x) - 0.5 * localization * x * x)

    edges = [low, *points, high]

    def integral(function: Any) -> float:
        return sum(integrate.quad(function, a, b, limit=200)[0] for a, b in itertools.pairwise(edges))

    return integral(lambda x: potential(x) * density(x)) / integral(density)


@pytest.mark.nightly
def test_there_are_enough_of_all_kinds(fixed: dict[str, Any]) -> None:
    assert len(fixed) >= 80
    assert {problem.kind for problem in fixed.values()} == {
        "one mode",
        "wells",
        "plateau",
        "curved",
        "edge",
        "no minimum",
    }


@pytest.mark.nightly
def test_sums_are_those_of_adaptive_quadratures(fixed: dict[str, Any]) -> None:
    def twins(x: float) -> float:
        return 8.0 * (x * (x - 3) / 2.25) ** 2

    expected = mean_on_a_line(twins, 0.1, -20, 20, [-1, 0, 1, 2, 3, 4]) + 2 * 0.5 * 10 / 10.1
    assert fixed["twins"].truth.llc == pytest.approx(expected, rel=1e-5)

    def wall(x: float, stiffness: float) -> float:
        return 0.5 * stiffness * x**2

    def edge(x: float) -> float:
        return 5 * (x - math.log1p(x))

    expected = (
        mean_on_a_line(lambda x: wall(x, 4.0), 0.1, -10, 0.2, [])
        + mean_on_a_line(lambda x: wall(x, 10.0), 0.1, -10, 0.5, [])
        + mean_on_a_line(edge, 0.1, -1 + 1e-13, 20, [0.0])
    )
    assert fixed["walls"].truth.llc == pytest.approx(expected, rel=1e-4)


@pytest.mark.nightly
def test_functions_of_the_radius_are_those_of_adaptive_quadratures(fixed: dict[str, Any]) -> None:
    for name, depth, width, localization, dim in (("hole 0.05", 10, 0.05, 0.1, 2), ("hole, d=3", 12, 0.02, 1.0, 3)):

        def integral(power: int, depth=depth, width=width, localization=localization, dim=dim) -> float:
            def function(r: float) -> float:
                u = depth * -math.expm1(-0.5 * (r / width) ** 2)
                return u**power * r ** (dim - 1) * math.exp(-u - 0.5 * localization * r * r)

            edges = [0, width, 5 * width, 20 * width, 1.0, 30.0]
            return sum(integrate.quad(function, a, b, limit=200)[0] for a, b in itertools.pairwise(edges))

        assert fixed[name].truth.llc == pytest.approx(integral(1) / integral(0), rel=1e-4)


@pytest.mark.nightly
def test_two_ways_to_a_hyperbola_agree(fixed: dict[str, Any]) -> None:
    """One with a Gaussian factor taken out, the other on a grid of the plane."""
    assert fixed["u v = 1"].truth.llc == pytest.approx(fixed["hyperbola γ=1"].truth.llc, rel=1e-5)
    problem = fixed["2 x 2, rank 1, γ=10"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200_000, 4)) / math.sqrt(10)
    values = problem.excess(problem.w0 + x)
    weights = np.exp(-values)
    mean = float(np.sum(weights * values) / weights.sum())
    error = float(np.sqrt(np.sum(weights**2 * (values - mean) ** 2)) / weights.sum())
    assert abs(mean - problem.truth.llc) < 4 * error < 0.1


@pytest.mark.slow
def test_wells_are_what_exact_draws_and_grids_say(problems: Any, fixed: dict[str, Any]) -> None:
    problem = fixed["close, d=2"]
    assert abs(problems.in_the_plane(problem).llc - problem.truth.llc) < 4 * problem.truth.error


def test_annealed_particles_know_a_closed_form(problems: Any, fixed: dict[str, Any]) -> None:
    problem = fixed["linear, n=4"]
    found = problems.smc(problem, 400, 5, 4, seed=0)
    assert abs(found.llc - problem.truth.llc) < 4 * found.error < 0.2


@pytest.mark.nightly
def test_random_families_are_functions_of_their_seed(problems: Any) -> None:
    for family in problems.FAMILIES:
        one, again, other = (problems.random_problems(family, seed, 2) for seed in (5, 5, 6))
        assert [problem.name for problem in one] == [problem.name for problem in again]
        for mine, same, others in zip(one, again, other, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(mine.data, same.data, strict=True))
            assert mine.truth.error <= 0.01 * abs(mine.truth.llc), mine.name
            assert mine.name != others.name


@pytest.mark.nightly
def test_w0_is_a_minimum_where_nothing_else_is_said(fixed: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    for problem in fixed.values():
        if problem.kind != "no minimum" and problem.dim < 45:
            near = problem.w0 + 1e-5 * rng.standard_normal((64, problem.dim))
            assert np.nanmin(problem.excess(near)) > -1e-7, problem.name


def test_verdicts(gauntlet: Any) -> None:
    def result(llc: float, se: float, is_given: bool, kind: str = "wells") -> Any:
        return gauntlet.Result("p", "f", kind, 2, "hmc", 0, 2.0, 0.0, llc, se, is_given, ("why",), 10.0, 1.0)

    assert result(2.1, 0.01, True).is_wrong
    assert not result(2.01, 1e-4, True).is_wrong  # by half a percent
    assert not result(2.1, 0.05, True).is_wrong
    assert result(2.0, 0.01, True, "no minimum").is_wrong
    refused = result(math.nan, math.inf, False)
    assert not refused.is_right
    assert not refused.is_wrong
    assert str(gauntlet.Result.from_line(refused.to_line())) == str(refused)
    counts = gauntlet.summary("hmc", "all", [result(2.1, 0.01, True), result(2.0, 0.01, True), refused])
    assert [counts[name] for name in ("given_right", "given_wrong", "refused_right", "refused_wrong")] == [1, 1, 0, 1]
    assert counts["coverage"] == 0.5


@pytest.mark.nightly
def test_wells_plateaus_and_edges_are_certified_and_right(gauntlet: Any, fixed: dict[str, Any]) -> None:
    """Those of three parameters; `tests/reference/test_wells.py` has others. A saddle is refused."""
    names = (
        "twins",
        "eight wells",
        "second well",
        "flat, one-sided, kink",
        "walls",
        "no curvature at w0",
        "on a saddle",
    )
    for name in names:
        problem = fixed[name]
        found = gauntlet.certify(problem, 0, gauntlet.CPUTime().deadline(60.0))
        assert found["is_given"] == (problem.kind != "no minimum"), (name, found["reasons"])
        assert abs(found["llc"] - problem.truth.llc) < 4 * math.hypot(found["se"], problem.truth.error), name


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("family", "seed", "name"),
    [
        ("wells", 13, "wells 13.12, d=10"),  # a basin of a tenth, which few descents miss
        (
            "hyperbolas",
            11,
            "hyperbola 11.1, d=4",
        ),  # far arms, where no chain has been when corrected readings are quiet
        ("sums", 14, "sum 14.14, d=3"),  # a plateau that no chain is on
        ("sums", 15, "sum 15.3, d=10"),  # no curvature at w0, and descents that end beside an edge
        ("hyperbolas", 17, "hyperbola 17.13, d=4"),  # corrected readings hide arms, and importance sampling is no help
        ("plateaus", 16, "volcano 16.4, d=3"),  # chains that mix more slowly than they know
    ],
)
def test_random_problems_that_are_easily_mistaken_are_not(
    gauntlet: Any, problems: Any, family: str, seed: int, name: str
) -> None:
    (problem,) = (problem for problem in problems.random_problems(family, seed, 20) if problem.name == name)
    for repeat in range(3):
        found = gauntlet.run(problem, "certificate", repeat, 60.0, gauntlet.CPUTime())
        assert not found.is_wrong, f"{found.llc} ± {found.se} of {found.truth}"


@pytest.mark.nightly
def test_nothing_is_given_and_wrong(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gauntlet.py"), str(tmp_path), "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = json.loads((tmp_path / "gauntlet.json").read_text(encoding="utf-8"))
    certificates = [row for row in stored["summary"] if row["sampler"] == "certificate"]
    assert certificates[-1]["given_right"] >= 100
    (one_mode,) = (row for row in certificates if row["group"] == "one mode")
    num_given = one_mode["given_right"]
    assert num_given >= 0.95 * (num_given + one_mode["refused_right"] + one_mode["refused_wrong"])
