"""Figures to look closer at: by Plotly, which an extra brings, with its program inlined in the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from markupsafe import Markup

from lambda_hat.errors import UsageError
from lambda_hat.report.analysis import completed, parameters
from lambda_hat.report.drawing import colour_of
from lambda_hat.report.page import PlotPart
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import settings_text, trials_by_method

__all__ = ["build_plots"]

Row = Mapping[str, Any]

_CONFIG = {"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": ""}  # nothing leaves the page


def build_plots(run: RunFiles) -> tuple[PlotPart, ...]:
    """Error against cost of every problem, and the parallel coordinates of every study.

    Raises:
        UsageError: Plotly is not installed.
    """
    try:
        go, to_html = import_module("plotly.graph_objects"), import_module("plotly.io").to_html
    except ImportError as error:
        raise UsageError(
            "`--interactive` needs Plotly, which is not installed: `pip install 'lambda-hat[plotly]'`."
        ) from error
    figures: dict[str, Any] = {}
    for pid, title in run.titles.items():
        if by_method := trials_by_method(run.rows, pid):
            figures[f"Accuracy against cost: {title}"] = _cost(go, by_method)
    for (pid, method), trials in run.studies.items():
        known = completed(trials)
        if known and parameters(known):
            figures[f"{method} on {run.titles[pid]}"] = _parallel(go, known)
    return tuple(
        PlotPart(
            title,
            Markup(
                to_html(
                    figure,
                    config=_CONFIG,
                    full_html=False,
                    include_plotlyjs=index == 0,
                    div_id=f"plot-{index}",
                )
            ),
        )
        for index, (title, figure) in enumerate(figures.items())
    )


def _cost(go: Any, by_method: Mapping[str, Sequence[Row]]) -> Any:
    figure = go.Figure()
    for method, trials in by_method.items():
        known = [row for row in completed(trials) if row.get("error") and row.get("num_gradient_evaluations")]
        figure.add_scatter(
            x=[row["num_gradient_evaluations"] for row in known],
            y=[abs(row["error"]) for row in known],
            mode="markers",
            name=method,
            marker={"color": colour_of(method)},
            text=[_hover(row) for row in known],
            hoverinfo="text",
        )
    figure.update_xaxes(type="log", title="gradient evaluations (full-data scale)")
    figure.update_yaxes(type="log", title="|λ̂ − reference|")
    return _styled(figure)


def _parallel(go: Any, known: Sequence[Row]) -> Any:
    dimensions = [_dimension(name, [row.get(f"param_{name}") for row in known]) for name in parameters(known)]
    objectives = [row["objective"] for row in known]
    order = sorted(range(len(known)), key=objectives.__getitem__)
    ranks = [0] * len(known)
    for rank, index in enumerate(order):
        ranks[index] = rank
    line = {"color": ranks, "colorscale": "Viridis", "showscale": True, "colorbar": {"title": "rank"}}
    return _styled(
        go.Figure(go.Parcoords(line=line, dimensions=[*dimensions, {"label": "objective", "values": objectives}]))
    )


def _dimension(name: str, values: Sequence[Any]) -> dict[str, Any]:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return {"label": name, "values": list(values)}
    choices = sorted({str(value) for value in values})
    places = [choices.index(str(value)) for value in values]
    return {"label": name, "values": places, "tickvals": list(range(len(choices))), "ticktext": choices}


def _hover(row: Row) -> str:
    text = f"{row['method']} trial {row['number']} ({row.get('run_id')})<br>error {row['error']:+.3g}<br>"
    return text + settings_text(row).replace("<", "&lt;").replace(", ", "<br>")


def _styled(figure: Any) -> Any:
    figure.update_layout(template="plotly_white", margin={"l": 70, "r": 30, "t": 50, "b": 50}, height=420)
    return figure
