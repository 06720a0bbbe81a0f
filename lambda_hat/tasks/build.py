"""Building networks of one's own before a run begins, in a process of its own: `python -m lambda_hat.tasks.build`.

It reads a `BuildOrder` from the file that its argument names, and writes a `BuildReport` to the one that its second
names, anew after every problem: so it tells how far it came. What functions print goes to stderr. The command that
waits for it needs neither JAX nor what users import.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import jax

from lambda_hat.config.problems import PythonProblem, parse_problem
from lambda_hat.errors import LambdaHatError, TargetError
from lambda_hat.posterior import checked_posterior_of
from lambda_hat.records.build import BuildOrder, BuildReport, BuiltProblem
from lambda_hat.targets.python import Built, build_anew, find_function, place_in_source

__all__ = ["main"]

SECONDS_TO_REPEAT = 10.0  # a function that took less is called again, to see whether it gives the same


def main(order_path: str, report_path: str) -> None:
    """Carry out an order, problem by problem."""
    order = BuildOrder.read(Path(order_path))
    assert order is not None
    report = BuildReport(problems=())
    report.write(Path(report_path))
    for values in order.problems:
        report = BuildReport(problems=(*report.problems, _built(values, is_called=order.is_called)))
        report.write(Path(report_path))


def _built(values: object, *, is_called: bool) -> BuiltProblem:
    problem = parse_problem(values)
    assert isinstance(problem, PythonProblem)
    try:
        if not is_called:
            find_function(problem)
            return BuiltProblem(sources={})
        start = time.monotonic()
        built = build_anew(problem)
        if time.monotonic() - start < SECONDS_TO_REPEAT:
            _refuse_another(built, build_anew(problem), problem)
        with jax.enable_x64(True):
            checked_posterior_of(built.model, problem.posterior, "float64")
    except TargetError as error:
        return BuiltProblem(fault=str(error))
    except LambdaHatError as error:
        return BuiltProblem(fault=f"what {problem.call} gave cannot be used: {error}")
    except Exception as error:  # of the loss, which is the user's own
        where = place_in_source(error, problem)
        return BuiltProblem(fault=f"the loss of {problem.call} failed{where}: {type(error).__name__}: {error}")
    return BuiltProblem(content=built.content, sources=built.sources, sketch=built.sketch)


def _refuse_another(one: Built, other: Built, problem: PythonProblem) -> None:
    if one.content != other.content:
        raise TargetError(
            f"{problem.call} gave another model when it was called again with the same arguments. It has to give the "
            "same parameters and data every time: fix its seeds, or load what it computes from a file."
        )


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        main(*sys.argv[1:])
