"""A mixed study, replayed from its log of events: caps hold, no executor waits beside work, studies take turns."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from lambda_hat.report.timeline import read_events, spans_of, use_of

SECONDS_BETWEEN_TASKS = 2.0  # an end, its bookkeeping and the next start, on a machine that is busy otherwise
NUM_TRIALS = 6
SPACES = {
    "sgld": {
        "eta0": {"dist": "float", "low": 1e-4, "high": 1e-3},
        "steps": {"dist": "int", "low": 20000, "high": 20000},
    },
    "vi": {"lr": {"dist": "float", "low": 5e-3, "high": 5e-2}, "steps": {"dist": "int", "low": 500, "high": 1000}},
    "mclmc": {"L": {"dist": "float", "low": 1.0, "high": 2.0}, "steps": {"dist": "int", "low": 300, "high": 600}},
}


@pytest.mark.slow
def test_three_methods_and_two_problems_share_two_executors(small_study):
    pools = [{"label": label, "max_workers": 1} for label in ("htex64", "htex32")]
    (small_study.folder / "card.yaml").write_text(yaml.safe_dump({"type": "local", "executors": pools}))
    quadratic = small_study.study["problems"][0]
    sets = {
        "problems": [quadratic, {**quadratic, "seed": 4}],
        "methods": list(SPACES),
        "search_space": SPACES,
        "optuna.max_trials_per_method": NUM_TRIALS,
        "optuna.pruner.type": "none",
        "samplers.vi": {"M": 1, "r": 0, "batch_size": 200},
    }
    small_study.run(*(word for key, value in sets.items() for word in ("--set", f"{key}={json.dumps(value)}")))
    (events,) = read_events(small_study.root / "meta" / "events.jsonl")
    begin, *_, end = events
    assert (begin["kind"], begin["caps"], end["kind"]) == ("begin", {"htex64": 1, "htex32": 1}, "end")
    spans = [span for span in spans_of(events) if not span.lane.endswith(":reference")]
    assert Counter((span.lane.split(":")[1], span.label) for span in spans) == {
        ("sgld", "htex32"): 2 * NUM_TRIALS, ("vi", "htex32"): 2 * NUM_TRIALS, ("mclmc", "htex64"): 2 * NUM_TRIALS,
    }  # fmt: skip
    for label, cap in begin["caps"].items():
        use = use_of(spans, label, cap)
        assert use.max_in_flight <= cap
        assert all(to - since < SECONDS_BETWEEN_TASKS for since, to, _ in use.idle), use.idle
        lanes = [span.lane for span in spans if span.label == label]
        half = Counter(lanes[: len(lanes) // 2])
        assert max(half.values()) - min(half[lane] for lane in set(lanes)) <= 2, (
            "one reference is there before the other"
        )
