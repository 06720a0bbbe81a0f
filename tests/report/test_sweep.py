"""λ̂ along a sweep, drawn from the rows of its points."""

from __future__ import annotations

from lambda_hat.records.rows import RunRow
from lambda_hat.records.state import State
from lambda_hat.report.sweep import _figure


def run_row(**values) -> RunRow:
    known = {"pid": "p_0123456789ab", "sampler": "auto", "method": "auto", "state": State.COMPLETE, "label": "htex64"}
    return RunRow.model_construct(
        **known | {"llc_hat": 8.0, "se_hat": 0.1, "llc_ref": 8.1, "laplace_llc": 8.2} | values
    )


def drawn(*rows: RunRow):
    axes = _figure("checkpoint", ["a", "b"], [[row] for row in rows]).figure.axes[0]
    marks = {line.get_marker(): line for line in axes.lines if line.get_marker() in ("^", "v")}
    return axes.get_ylim(), marks


def test_the_laplace_value_is_in_the_picture():
    (_, top), marks = drawn(run_row(), run_row(laplace_llc=12.0))
    assert top >= 12.0
    assert not marks


def test_a_value_far_out_is_a_triangle_at_the_edge():
    (bottom, top), marks = drawn(run_row(llc_hat=-900.0, is_minimum=False), run_row(laplace_llc=1e6))
    assert top < 20.0
    assert bottom > -2.0
    assert {mark: line.get_ydata()[0] for mark, line in marks.items()} == {"^": top, "v": bottom}
