"""The report in a real browser: it runs without complaint, and its table can be sorted and filtered."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lambda_hat.records.rows import ConfirmedRow
from lambda_hat.records.tables import write_table
from lambda_hat.report.html import write_report
from tests.conftest import HANGING
from tests.report.conftest import confirmed_row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="there is no Chromium here (Debian package chromium)"
)


class Table(HTMLParser):
    """The rows of the table of trials as they stand in the document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str | None]] = []
        self.columns: list[str] = []
        self.sorted_by: dict[str, str | None] = {}
        self._cells: list[str | None] = []
        self._is_hidden = False
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "th" and "data-name" in attributes:
            self.columns.append(attributes["data-name"])
            if "aria-sort" in attributes:
                self.sorted_by[attributes["data-name"]] = attributes["aria-sort"]
        elif tag == "tr":
            self._cells, self._is_hidden = [], "hidden" in attributes
        elif tag == "td" and "data-v" in attributes:
            self._cells.append(attributes["data-v"])

    def handle_endtag(self, tag):
        if tag == "tr" and self._cells and not self._is_hidden:
            self.rows.append(dict(zip(self.columns, self._cells, strict=True)))

    def values(self, column: str) -> list[float]:
        return [float(row[column]) for row in self.rows if row[column]]


@pytest.fixture(scope="module")
def report(make_run):
    return write_report(make_run())


@pytest.fixture
def browse(tmp_path):
    """The document that Chromium made of a page, and what its console said."""

    def browse(page: Path, fragment: str = "", flags: Sequence[str] = ()) -> tuple[str, list[str]]:
        assert CHROMIUM is not None, "CI needs Chromium (Debian package chromium)"
        known = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=2000"]
        command = [CHROMIUM, *known, *flags, f"--user-data-dir={tmp_path}", "--dump-dom", f"{page.as_uri()}{fragment}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANGING, check=True)
        return done.stdout, re.findall(r"CONSOLE[:(]\d+\)?\] (.*)", done.stderr)

    return browse


@pytest.mark.slow
def test_a_page_is_shown_without_complaint_and_follows_its_address(browse, report):
    document, console = browse(report, "#sort=-num_gradient_evaluations&filter=vi+complete")
    assert console == []
    assert document.count("<svg") == 13
    table = Table(document)
    assert table.sorted_by == {"num_gradient_evaluations": "descending"}
    work = table.values("num_gradient_evaluations")
    assert work == sorted(work, reverse=True)
    assert {(row["method"], row["state"]) for row in table.rows} == {("vi", "complete")}
    assert re.search(r'id="shown"[^>]*>10 of 24<', document)


@pytest.mark.slow
def test_a_click_on_a_header_sorts_the_table(browse, report, tmp_path):
    clicks = (
        "<script>for (const name of ['state', 'error']) document.querySelector(`[data-name=${name}] button`).click()"
    )
    page = tmp_path / "clicked.html"
    content = report.read_text(encoding="utf-8").replace("</body>", f"{clicks}</script></body>")
    page.write_text(content, encoding="utf-8")
    document, console = browse(page)
    assert console == []
    table = Table(document)
    assert table.sorted_by == {"error": "ascending"}
    assert table.values("error") == sorted(table.values("error"))
    assert [row["error"] for row in table.rows[-4:]] == [""] * 4
    assert len(table.rows) == 24


@pytest.mark.parametrize("width", [400, *(pytest.param(width, marks=pytest.mark.nightly) for width in (1280, 1920))])
@pytest.mark.slow
def test_a_page_never_scrolls_sideways(browse, make_run, tmp_path, width):
    """A table that is wider than a phone scrolls in its own box; from 1280 px on, every table but the last fits."""
    paths = make_run()
    rows = [
        confirmed_row(
            method=method, number=7, rmse=0.3, rmse_se=0.05, relative_rmse=0.036, mean_error=0.1, rms_z=1.7,
            worst_rhat=1.025, worst_k_hat=0.7003, num_gradient_evaluations=123456.0,
            hyperparameters={"M": 2, "batch_size": 32, "lr": 0.0012579, "steps": 3500, "whitening_mode": "hessian"},
        )
        for method in ("sgld", "vi")
    ]  # fmt: skip
    write_table(paths.confirmed_table, rows, ConfirmedRow)
    measure = (
        "<script>const frame = document.scrollingElement;"
        "document.body.dataset.overflow = frame.scrollWidth - innerWidth;"
        "document.body.dataset.clipped = [...document.querySelectorAll('.wide')]"
        ".filter((box) => box.scrollWidth > box.clientWidth + 1).length</script>"
    )
    page = tmp_path / "measured.html"
    content = write_report(paths).read_text(encoding="utf-8").replace("</body>", f"{measure}</body>")
    page.write_text(content, encoding="utf-8")
    document, _ = browse(page, flags=(f"--window-size={width},2000",))
    (overflow,) = re.findall(r'data-overflow="(-?\d+)"', document)
    (clipped,) = re.findall(r'data-clipped="(\d+)"', document)
    assert int(overflow) <= 0
    assert width < 1280 or int(clipped) == 0
