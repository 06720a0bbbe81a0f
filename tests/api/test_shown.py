"""How results show themselves: as a line on a terminal, as HTML in a notebook, and as figures."""

from __future__ import annotations

import io
import math
import sys
from types import ModuleType

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from lambda_hat import CallProgress, LLCResult, LLCSeries
from lambda_hat.api.progress import reporting
from lambda_hat.api.series import SeriesPoint
from lambda_hat.draws.criteria import Criterion
from lambda_hat.errors import InputError
from lambda_hat.reference.certificate import Certificate
from lambda_hat.reference.survey import Survey

CERTIFICATE = Certificate(
    (
        Criterion("R̂ of the loss", 1.002, 1.01),
        Criterion("bulk ESS", 100.0, 400.0, is_upper=False),
        Criterion("λ̂ over its standard error", 3.0, -2.0, is_upper=False),
        Criterion("a & b", math.nan, 1.0),
    )
)


def result(**fields) -> LLCResult:
    rng = np.random.default_rng(0)
    figures = {
        "sampler": "hmc", "llc": 1.25, "se": 0.04, "raw_llc": 1.2, "rhat": 1.002, "ess_bulk": 900.0, "ess_tail": 800.0,
        "reasons": ("bulk ESS is < 400.",), "loss_trace": rng.exponential(1.2, (3, 50)),
        "distance_trace": rng.exponential(1.0, (3, 50)), "sample_stats": {"weight": np.ones((3, 50))},
        "localization": 10.0, "nbeta": 20.0, "dim": 3, "num_data": 100, "loss_at_w0": 0.5, "laplace_llc": 1.3,
        "decrease_available": 0.0, "survey": Survey(), "num_gradient_evaluations": 1e4, "num_curvature_passes": 3,
        "seconds": 1.0, "seed": 0, "settings": {}, "extras": {"acceptance_rate": 0.8}, "certificate": CERTIFICATE,
    }  # fmt: skip
    return LLCResult(**figures | fields)


def test_a_result_in_a_notebook():
    shown = result()._repr_html_()
    assert "<b>λ̂ = 1.250 ± 0.040</b> hmc, not certified" in shown
    assert "<li>bulk ESS is &lt; 400.</li>" in shown
    assert "<th>γ_loc</th>" in shown
    assert "<td>0.80</td>" in shown


def test_a_result_as_a_figure():
    drawn = result()
    axes = drawn.plot()
    means = [line.get_ydata()[-1] for line in axes.lines[:3]]
    np.testing.assert_allclose(means, drawn.loss_trace.mean(axis=1))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["chains, running mean", "λ̂", "Laplace"]
    assert result(laplace_llc=None, se=math.inf, sample_stats={}).plot(axes) is axes


def test_a_figure_in_a_notebook_is_one_that_the_notebook_shows(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(matplotlib.rcParams, "backend", "agg")
    axes = result().plot()
    assert pyplot.gcf() is axes.figure
    pyplot.close(axes.figure)


def test_a_certificate_in_a_notebook_and_as_a_figure():
    shown = CERTIFICATE._repr_html_()
    assert "<td>bulk ESS</td><td>100</td><td>≥ 400</td><td>no</td>" in shown
    assert "<td>a &amp; b</td><td>–</td><td>≤ 1</td><td>no</td>" in shown
    points = CERTIFICATE.plot().lines[: len(CERTIFICATE.criteria)]
    shares = [line.get_xdata()[0] for line in reversed(points)]
    np.testing.assert_allclose(shares, [0.2, 4.0, 1e-3, 1e3])
    assert [line.get_markerfacecolor() == "white" for line in reversed(points)] == [False, True, False, True]


def test_a_series_in_a_notebook():
    points = [SeriesPoint.of(step, result(decrease_available=decrease)) for step, decrease in ((0, 5.0), ("end", 0.0))]
    shown = LLCSeries(tuple(points))._repr_html_()
    assert "<td>0</td><td>1.250 ± 0.040</td><td>1.3</td><td>0.5</td><td>no minimum</td>" in shown
    assert "<td>end</td>" in shown
    assert "<td>not reliable</td>" in shown


def test_a_series_with_several_localizations_says_that_its_points_do_not_compare():
    one, other = SeriesPoint.of(0, result()), SeriesPoint.of(1, result(localization=200.0))
    assert LLCSeries((one, one)).caution == ""
    series = LLCSeries((one, other))
    assert "do not compare" in series.caution
    assert series.caution in repr(series)
    assert series.caution in series._repr_html_()
    assert "do not compare" in series.plot().get_xlabel()


def test_progress_in_words():
    told = CallProgress("sampling", 12.3, 0.25, 1.25, 0.04, 7, 9, "end")
    assert str(told) == "step end, sampling 25%, λ̂ = 1.250 ± 0.040, 7 of 9 criteria met, 12 s"
    assert str(CallProgress("hessian", 0.2)) == "hessian, 0 s"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_on_a_terminal_leaves_nothing_behind(monkeypatch):
    for stream, progress, is_shown in (
        (Terminal(), None, True),
        (Terminal(), False, False),
        (io.StringIO(), None, False),
        (io.StringIO(), True, True),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        with reporting(progress) as tell:
            tell(CallProgress("hessian", 0.0))
        assert ("hessian, 0 s" in stream.getvalue()) == is_shown
        *_, last = stream.getvalue().split("\r")
        assert not last
    told = []
    with reporting(told.append) as tell:
        tell(CallProgress("hessian", 0.0))
    assert len(told) == 1
    with pytest.raises(InputError, match="progress: found 3, expected True, False or a function"), reporting(3):
        pass
