"""Figures in `docs/figures` of what pages say in words and numbers: `python scripts/page_figures.py`.

`comparison` draws the table of `docs/comparison.md`, `speed` the times in `docs/speed.md`; the others are diagrams.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#999999", "#009e73"
SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lambda-hat", "font.size": 10})


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def save(figure: Figure, name: str) -> None:
    """Write it as SVG, without a date."""
    path = DOCS / "figures" / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    text = "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    path.write_text(f"{text}\n", encoding="utf-8")
    print(path)


def value(text: str) -> float:
    """`10⁻⁵` or `3·10⁻⁴` as a number."""
    factor, _, power = text.rpartition("·")
    return float(factor or 1) * 10.0 ** int(power.removeprefix("10").translate(SUPERSCRIPTS))


def comparison() -> None:
    """λ̂ by step size, of both programs, beside the certified value."""
    page = (DOCS / "comparison.md").read_text(encoding="utf-8")
    series: dict[str, list[tuple[float, float, float]]] = {}
    certified, by = (0.0, 0.0), ""
    for line in re.findall(r"^\| .* ± .*$", page, re.MULTILINE):
        who, step, estimate, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        by = who or by
        llc, se = map(float, estimate.split(" ± "))
        if by == "`certify_llc`":
            certified = llc, se
        elif step:
            series.setdefault(by, []).append((value(step), llc, se))
    figure, axes = new_figure(6.4, 3.2)
    axes.axhspan(
        certified[0] - 2 * certified[1], certified[0] + 2 * certified[1], color="black", alpha=0.3, linewidth=0
    )
    axes.axhline(certified[0], color="black", linewidth=1, label="certified")
    names = {"`estimate_llc`, sgld": (BLUE, "o", "estimate_llc, sgld"), "devinterp": (ORANGE, "s", "devinterp")}
    for by, (colour, marker, label) in names.items():
        steps, llcs, errors = zip(*series[by], strict=True)
        axes.errorbar(steps, llcs, yerr=errors, color=colour, marker=marker, linewidth=1, capsize=2, label=label)
    axes.set(xscale="log", xlabel="step size", ylabel="λ̂ ± its standard error")
    axes.legend()
    save(figure, "comparison")


def speed() -> None:
    """A gradient of 20,000 rows of a narrow network, in both ways."""
    figure, axes = new_figure(6.4, 2.0)
    for row, (times, colour, label) in enumerate(
        (((0.32, 0.20), BLUE, "by columns"), ((0.53, 0.41), GREY, "row by row"))
    ):
        axes.barh([index + 0.4 * row for index in (0, 1)], times, height=0.36, color=colour, label=label)
    axes.set_yticks([0.2, 1.2], ["float64", "float32"])
    axes.invert_yaxis()
    axes.set_xlabel("ms for a gradient of 20,000 rows")
    axes.legend()
    save(figure, "speed")


def diagram(name: str, boxes: Sequence[tuple[float, float, str, str]], arrows: Sequence[tuple[int, int]]) -> None:
    """Boxes at places, with arrows from one to another."""
    figure, axes = new_figure(7.2, 2.6)
    shown = [
        axes.text(x, y, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "fc": colour, "ec": GREY})
        for x, y, text, colour in boxes
    ]
    for start, end in arrows:
        axes.annotate(
            "", xy=boxes[end][:2], xytext=boxes[start][:2],
            arrowprops={"arrowstyle": "->", "color": GREY, "patchA": shown[start].get_bbox_patch(),
                        "patchB": shown[end].get_bbox_patch(), "shrinkA": 4, "shrinkB": 4},
        )  # fmt: skip
    axes.set(xlim=(0, 10), ylim=(0, 4))
    axes.axis("off")
    save(figure, name)


def workers() -> None:
    """Where the work of one command is done."""
    light, task, plain = "#e1eef6", "#fbe9df", "#ffffff"
    diagram(
        "workers",
        [
            (1.2, 2, "one command:\nasks Optuna,\nkeeps the journal", light),
            (4.1, 3.2, "executor htex64\nreferences, MCLMC", plain),
            (4.1, 0.8, "executor htex32\nSGLD, VI", plain),
            (6.8, 3.2, "block:\na job or\nthis machine", plain),
            (6.8, 0.8, "block", plain),
            (9.1, 3.5, "worker", task),
            (9.1, 2.6, "worker", task),
            (9.1, 0.8, "worker", task),
        ],
        [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (3, 6), (4, 7)],
    )


def targets() -> None:
    """What becomes of an entry of `problems`."""
    light, task, plain = "#e1eef6", "#fbe9df", "#ffffff"
    diagram(
        "targets",
        [
            (1.3, 2.9, "study file\ntarget: quartic\ndim: 2", light),
            (4.2, 2.9, "ProblemSpec\nchecks the keys,\nnames the problem", plain),
            (7.0, 2.9, "TargetKind.build\nin a worker, once", task),
            (9.1, 2.9, "Model\nw0, data, loss", plain),
            (9.1, 0.8, "posterior", plain),
            (6.4, 0.8, "reference", task),
            (4.2, 0.8, "trials", task),
        ],
        [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)],
    )


if __name__ == "__main__":
    comparison()
    speed()
    workers()
    targets()
