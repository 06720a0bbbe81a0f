"""Figures to look closer at: by Plotly, which an extra brings, with its program inlined in the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from markupsafe import Markup

from lambda_hat.config.study import Distribution
from lambda_hat.errors import UsageError
from lambda_hat.records.base import Value
from lambda_hat.records.rows import TrialRow
from lambda_hat.report.analysis import by_rank, completed, parameters, priced, score
from lambda_hat.report.drawing import colour_of
from lambda_hat.report.page import PlotPart
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.scale import scale_of
from lambda_hat.report.summary import trials_by_method
from lambda_hat.report.verdict import settings_text

__all__ = ["build_plots"]

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
            figures[f"{method} on {run.titles[pid]}"] = _parallel(go, known, run.search_space(method))
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


def _cost(go: Any, by_method: Mapping[str, Sequence[TrialRow]]) -> Any:
    figure = go.Figure()
    for method, trials in by_method.items():
        known = [one for one in priced(trials) if one.error and one.work]
        figure.add_scatter(
            x=[one.work for one in known],
            y=[one.error for one in known],
            mode="markers",
            name=method,
            marker={"color": colour_of(method)},
            text=[_hover(one.trial) for one in known],
            hoverinfo="text",
        )
    figure.update_xaxes(type="log", title="gradient evaluations (full-data scale)")
    figure.update_yaxes(type="log", title="|λ̂ − reference|")
    return _styled(figure)


def _parallel(go: Any, known: Sequence[TrialRow], space: Mapping[str, Distribution]) -> Any:
    dimensions = [
        _dimension(name, [trial.hyperparameters.get(name) for trial in known], space.get(name))
        for name in parameters(known)
    ]
    objectives = [score(trial) for trial in known]
    rank_of = {trial.number: rank for rank, trial in enumerate(by_rank(known))}
    ranks = [rank_of[trial.number] for trial in known]
    line = {"color": ranks, "colorscale": "Viridis", "showscale": True, "colorbar": {"title": "rank"}}
    return _styled(
        go.Figure(go.Parcoords(line=line, dimensions=[*dimensions, {"label": "objective", "values": objectives}]))
    )


def _dimension(name: str, values: Sequence[Value], distribution: Distribution | None) -> dict[str, Any]:
    scale = scale_of(values, distribution)
    ticks = {"tickvals": list(range(len(scale.categories))), "ticktext": scale.categories} if scale.categories else {}
    return {"label": name, "values": scale.places, **ticks}


def _hover(trial: TrialRow) -> str:
    text = f"{trial.method} trial {trial.number} ({trial.run_id})<br>error {trial.error:+.3g}<br>"
    return text + settings_text(trial.hyperparameters).replace("<", "&lt;").replace(", ", "<br>")


def _styled(figure: Any) -> Any:
    figure.update_layout(template="plotly_white", margin={"l": 70, "r": 30, "t": 50, "b": 50}, height=420)
    return figure
