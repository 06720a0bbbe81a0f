"""A mixed study, replayed from its log of events: caps are reached and hold, and studies take turns."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from lambda_hat.records.event import read_commands
from lambda_hat.report.timeline import spans_of, use_of

NUM_TRIALS = 6
SPACES = {
    "sgld": {
        "eta0": {"dist": "float", "low": 1e-4, "high": 1e-3},
        "steps": {"dist": "int", "low": 20000, "high": 20000},
    },
    "vi": {"lr": {"dist": "float", "low": 5e-3, "high": 5e-2}, "steps": {"dist": "int", "low": 500, "high": 1000}},
    "mclmc": {"L": {"dist": "float", "low": 1.0, "high": 2.0}, "steps": {"dist": "int", "low": 300, "high": 600}},
}


CAPS = {"htex64": 1, "htex32": 2}
BATCH_SIZE = 2


def is_reference(lane):
    return lane.endswith(":reference")


def is_study(lane):
    return not is_reference(lane)


def turns(events, label):
    """The studies on `label` in the order of their starts, from when all are open until one has no trial left."""
    all_open = max(n for n, event in enumerate(events) if is_reference(event.lane))
    started = [(n, event.lane) for n, event in enumerate(events) if event.kind == "started"]
    starts = [(n, lane) for n, lane in started if events[n].label == label and is_study(lane)]
    left, order = Counter(lane for _, lane in starts), []
    for n, lane in starts:
        left[lane] -= 1
        if n > all_open:
            order.append(lane)
            if not all(left.values()):
                break
    return order


@pytest.mark.nightly
def test_three_methods_and_two_problems_share_two_executors(small_study):
    pools = [{"label": label, "max_workers": cap} for label, cap in CAPS.items()]
    (small_study.folder / "card.yaml").write_text(yaml.safe_dump({"type": "local", "executors": pools}))
    quadratic = small_study.study["problems"][0]
    sets = {
        "problems": [quadratic, {**quadratic, "seed": 4}],
        "methods": list(SPACES),
        "search_space": SPACES,
        "optuna.max_trials_per_method": NUM_TRIALS,
        "optuna.concurrency.batch_size": BATCH_SIZE,
        "optuna.pruner.type": "none",
        "samplers.vi": {"M": 1, "r": 0, "batch_size": 200},
    }
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    small_study.run_with_workers(*words)
    (command,) = read_commands(small_study.root / "meta" / "events.jsonl")
    begin, events = command.begin, command.tasks
    assert (begin.caps, begin.capacity, begin.batch_size) == (CAPS, CAPS, BATCH_SIZE)
    assert command.lines[-1] is command.end
    spans = spans_of(events)
    trials = [span for span in spans if is_study(span.lane)]
    assert Counter((span.lane.split(":")[1], span.label, span.how) for span in trials) == {
        ("sgld", "htex32", "done"): 2 * NUM_TRIALS,
        ("vi", "htex32", "done"): 2 * NUM_TRIALS,
        ("mclmc", "htex64", "done"): 2 * NUM_TRIALS,
    }
    for label, cap in CAPS.items():
        use = use_of(spans, label, cap)
        assert use.max_in_flight == cap
        lanes = {span.lane for span in trials if span.label == label}
        for lane in lanes:
            own = [span for span in trials if span.lane == lane]
            assert use_of(own, label, BATCH_SIZE).max_in_flight <= BATCH_SIZE
        order = turns(events, label)
        assert len(order) >= len(lanes)
        for num in range(1, len(order) + 1):
            counts = Counter(order[:num])
            assert max(counts.values()) - min(counts[lane] for lane in lanes) <= 1, order
