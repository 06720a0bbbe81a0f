"""How figures are put into a page."""

from __future__ import annotations

import pytest

from lambda_hat.report.drawing import Picture, decimal, drawn, log_scale, value_ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.03, "0.03"), (2000.0, "2000"), (20000, "20000"), (3e5, "3e5"), (1.25e-7, "1.2e-7"), (0, "0"), (-0.5, "-0.5")],
)
def test_numbers_fit_under_a_tick(value, text):
    assert decimal(value) == text


@pytest.fixture
def picture():
    with drawn(3, 2) as figure:
        axes = figure.subplots()
        axes.plot([1, 2], [0.123456, 30], label='<script>"')
        axes.text(1, 1, "0.123456789")
        log_scale(axes.yaxis, 0.1, 40)
        figure.legend()
        return Picture(figure, 'a "figure" & <more>')


def test_a_figure_stands_in_a_page(picture):
    svg = picture.svg()
    assert svg.startswith('<svg role="img" aria-label="a &#34;figure&#34; &amp; &lt;more&gt;" viewBox="0 0 216 144"')
    assert svg.rstrip().endswith("</svg>")
    assert "<script" not in svg
    assert "xmlns" not in svg
    assert "<metadata" not in svg


def test_numbers_in_text_keep_their_digits(picture):
    assert "0.123456789" in picture.svg()


def test_a_figure_is_a_file_too(picture):
    assert picture.png().startswith(b"\x89PNG")


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_figure_gives_the_same_file(picture, kind, begins):
    assert picture.file(kind).startswith(begins)
    assert picture.file(kind) == picture.file(kind)


def test_a_pdf_has_no_type_3_fonts(picture):
    assert b"/Type3" not in picture.file("pdf")
    assert b"/FontFile2" in picture.file("pdf")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([32, 64, 256, 32], ["32", "64", "256"]),
        ([1000, 1001, 2000], ["1000", "2000"]),  # what would lie on another one has none
        ([0.1, 0.5, 0.1, 0.5], ["0.1", "0.5"]),
    ],
)
def test_values_that_are_few_have_the_ticks(values, expected):
    with drawn(3, 2) as figure:
        axes = figure.subplots()
        axes.plot(values, values, "o")
        value_ticks(axes.xaxis, values)
    assert [label.get_text() for label in axes.get_xticklabels()] == expected


def test_values_of_many_digits_have_no_ticks_of_their_own():
    values = [1e-4, 0.00517947, 0.268269] * 2
    with drawn(3, 2) as figure:
        axes = figure.subplots()
        axes.plot(values, values, "o")
        log_scale(axes.xaxis, 5e-5, 0.5)
        value_ticks(axes.xaxis, values)
    assert "0.001" in [label.get_text() for label in axes.get_xticklabels()]


def test_many_whole_numbers_have_whole_ticks():
    with drawn(3, 2) as figure:
        axes = figure.subplots()
        axes.plot(range(12), range(12))
        value_ticks(axes.xaxis, range(12))
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_no_figure_is_left_open(picture):
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []
