"""The cards of real sites, and what a user fills in."""

from __future__ import annotations

from pathlib import Path

from lambda_hat.config.checks import check_filled_in
from lambda_hat.config.locate import dotted, read_document

REPOSITORY = Path(__file__).parents[1]
SITES = sorted((REPOSITORY / "config/parsl/sites").glob("*.yaml"))
VALUES = {
    "<account>": "m1234",
    "<image>": "hub/lambda-hat:1",
    "<namespace>": "lab",
    "<address>": "10.1.2.3",
    "<claim>": "runs",
}


def filled_in(card: Path) -> list[str]:
    """A `--set` argument for each placeholder of the card; none where it has none."""
    arguments = []
    data = read_document(card, card.name).data
    for finding in check_filled_in(data):
        value = data
        for part in finding.path:
            value = value[part]
        arguments.append(f"{dotted(finding.path)}={VALUES[value]}")
    return arguments
