"""Never certified and wrong: `python benchmarks/gauntlet.py FOLDER [--seed 1] [--samplers certificate hmc ...]`.

Runs the certified reference, and `estimate_llc` with the samplers asked for, on the problems of
`gauntlet_problems.py`, whose λ̂ is known by other means: the fixed ones and random families of a seed. "Given" are
certified references and reliable estimates. "Wrong" is a λ̂ that is off by more than four standard errors (the truth's
own among them) and by more than 1 %. A w0 that is no minimum must be refused: given, it is wrong too.

The budget of a reference is CPU time without compilation, so that a busy machine changes nothing.

Every result is a line of FOLDER/results.jsonl as soon as it is there. The same command goes on where it was
interrupted. It prints a table by family and by kind, and writes FOLDER/gauntlet.txt and FOLDER/gauntlet.json. Its exit
code is 1 if anything that is given is wrong.

Programs are compiled with little optimization, unless XLA_FLAGS is set: most of them run for seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1 --xla_cpu_parallel_codegen_split_count=1",
)

import jax
import numpy as np
from gauntlet_problems import FAMILIES, Problem, fixed_problems, random_problems

import lambda_hat
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.posterior import posterior_of
from lambda_hat.reference.engine import sample_reference
from lambda_hat.samplers.pace import Moment
from lambda_hat.targets import read_model

CERTIFICATE = "certificate"
SAMPLERS: dict[str, dict[str, Any]] = {
    "hmc": {},
    "mclmc": {},
    "vi": {},
    "sgld": {"precond_type": "whitened", "eta0": 0.02},
    "auto": {},
}
MAX_Z = 4.0
MAX_ERROR = 0.01  # of λ̂
Z_OF_95_PERCENT = 1.96


class CPUTime:
    """CPU seconds of this process without those of XLA's compilation."""

    def __init__(self) -> None:
        self._compiling = self._lowered_at = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, seconds: float, **_: Any) -> None:
        """Each program is lowered and then compiled: between the ends of the two, XLA works."""
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            self._lowered_at = time.process_time()
        elif event == "/jax/core/compile/backend_compile_duration":
            self._compiling += min(seconds, time.process_time() - self._lowered_at)

    def now(self) -> float:
        """Seconds since the process began."""
        return time.process_time() - self._compiling

    def deadline(self, seconds: float) -> Callable[[], float]:
        """The moment when `seconds` from now would be spent if nothing else ran."""
        start = self.now()
        return lambda: time.monotonic() + seconds - (self.now() - start)


@dataclass(frozen=True)
class Result:
    """One λ̂ beside the truth."""

    problem: str
    family: str
    kind: str
    dim: int
    sampler: str
    repeat: int
    truth: float
    truth_error: float
    llc: float
    se: float
    is_given: bool
    reasons: tuple[str, ...]
    gradients: float
    cpu: float

    @property
    def key(self) -> tuple[str, str, int]:
        return self.problem, self.sampler, self.repeat

    @property
    def z(self) -> float:
        """Error in standard errors; NaN without a number."""
        error = math.hypot(self.se, self.truth_error)
        return (self.llc - self.truth) / error if 0 < error < math.inf else math.nan

    @property
    def off(self) -> float:
        """Relative error."""
        return (self.llc - self.truth) / abs(self.truth)

    @property
    def is_right(self) -> bool:
        """Within four standard errors or 1 %; False without a number."""
        return abs(self.z) <= MAX_Z or abs(self.off) <= MAX_ERROR

    @property
    def is_wrong(self) -> bool:
        """Given, and wrong or around a w0 that is no minimum."""
        return self.is_given and (not self.is_right or self.kind == "no minimum")

    def to_line(self) -> str:
        facts = asdict(self) | {"z": self.z, "off": self.off, "is_right": self.is_right}
        return json.dumps({name: _plain(value) for name, value in facts.items()}, ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> Result:
        facts = json.loads(line)
        values = {name: facts[name] for name in cls.__dataclass_fields__}
        values["llc"] = math.nan if values["llc"] is None else values["llc"]
        values["se"] = math.inf if values["se"] is None else values["se"]
        return cls(**values | {"reasons": tuple(values["reasons"])})

    def __str__(self) -> str:
        verdict = "WRONG" if self.is_wrong else f"{'given' if self.is_given else 'refused'}, "
        verdict += "" if self.is_wrong else "right" if self.is_right else "wrong"
        return (
            f"{self.problem:28} {self.sampler:12} {self.truth:10.5g} {self.llc:10.5g} ± {self.se:<9.2g} "
            f"z {self.z:+7.2f} {self.off:+8.2%} {self.gradients:10,.0f} {self.cpu:6.1f} s  {verdict}"
        )


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def certify(problem: Problem, seed: int, deadline: Moment) -> dict[str, Any]:
    """What `lambda_hat.certify_llc` does, with a deadline of CPU time."""
    spec = PosteriorSpec(localization=problem.localization, inverse_temperature=problem.inverse_temperature)
    model = read_model(problem.loss_fn, problem.w0, problem.data)
    with jax.enable_x64(True):
        posterior = posterior_of(model, spec, "float64")
        reference = sample_reference(posterior, ReferenceSpec(seed=seed), deadline=deadline)
    return {
        "llc": reference.llc,
        "se": reference.se,
        "is_given": reference.certificate.is_certified,
        "reasons": reference.reasons,
        "gradients": reference.num_gradient_evaluations,
    }


def estimate(problem: Problem, sampler: str, seed: int) -> dict[str, Any]:
    """One run of a method."""
    result = lambda_hat.estimate_llc(
        problem.loss_fn,
        problem.w0,
        problem.data,
        sampler=sampler,
        localization=problem.localization,
        inverse_temperature=problem.inverse_temperature,
        seed=seed,
        **SAMPLERS[sampler],
    )
    return {
        "llc": result.llc,
        "se": result.se,
        "is_given": result.is_reliable,
        "reasons": result.reasons,
        "gradients": result.num_gradient_evaluations,
    }


def run(problem: Problem, sampler: str, repeat: int, seconds: float, clock: CPUTime) -> Result:
    """One λ̂; the seed of repeat r is r."""
    truth, start = problem.truth, clock.now()
    if sampler == CERTIFICATE:
        found = certify(problem, repeat, clock.deadline(seconds))
    else:
        found = estimate(problem, sampler, repeat)
    return Result(
        problem=problem.name,
        family=problem.family,
        kind=problem.kind,
        dim=problem.dim,
        sampler=sampler,
        repeat=repeat,
        truth=truth.llc,
        truth_error=truth.error,
        cpu=clock.now() - start,
        **found,
    )


HEADER = (
    f"{'sampler':12} {'family or kind':18} {'given,':>7} {'given,':>7} {'refused,':>8} {'refused,':>8} "
    f"{'cover':>6} {'gradients':>10} {'CPU s':>6}\n"
    f"{'':12} {'':18} {'right':>7} {'WRONG':>7} {'right':>8} {'wrong':>8} {'of 95%':>6} {'median':>10} {'all':>6}"
)


def summary(sampler: str, group: str, results: list[Result]) -> dict[str, Any]:
    """Counts, the coverage of 95 % intervals among the given ones, and what they took."""
    given = [result for result in results if result.is_given]
    refused = [result for result in results if not result.is_given]
    wrong = sum(result.is_wrong for result in given)
    right = sum(result.is_right for result in refused)
    return {
        "sampler": sampler,
        "group": group,
        "given_right": len(given) - wrong,
        "given_wrong": wrong,
        "refused_right": right,
        "refused_wrong": len(refused) - right,
        "coverage": float(np.mean([abs(r.z) <= Z_OF_95_PERCENT for r in given])) if given else None,
        "gradients": float(np.median([result.gradients for result in results])),
        "cpu": sum(result.cpu for result in results),
    }


def summaries(results: list[Result]) -> Iterator[dict[str, Any]]:
    """Per sampler: by family, by kind, and all of them."""
    for sampler in dict.fromkeys(result.sampler for result in results):
        own = [result for result in results if result.sampler == sampler]
        for attribute in ("family", "kind"):
            for group in dict.fromkeys(getattr(result, attribute) for result in own):
                yield summary(sampler, group, [r for r in own if getattr(r, attribute) == group])
        yield summary(sampler, "all", own)


def table(rows: Iterable[dict[str, Any]]) -> str:
    lines = [HEADER]
    for row in rows:
        coverage = "" if row["coverage"] is None else f"{row['coverage']:.1%}"
        counts = f"{row['given_right']:7} {row['given_wrong']:7} {row['refused_right']:8} {row['refused_wrong']:8}"
        work = f"{row['gradients']:10,.0f} {row['cpu']:6.0f}"
        lines.append(f"{row['sampler']:12} {row['group']:18} {counts} {coverage:>6} {work}")
    return "\n".join(lines)


def choose(options: argparse.Namespace) -> list[Problem]:
    """The problems asked for, those of one program one after the other."""
    problems = fixed_problems() if "fixed" in options.families else []
    for family in options.families:
        if family != "fixed":
            problems += random_problems(family, options.seed, options.count)
    if options.only:
        problems = [problem for problem in problems if any(part in problem.name for part in options.only)]
    places = {program: place for place, program in enumerate(dict.fromkeys(problem.program for problem in problems))}
    return sorted(problems, key=lambda problem: places[problem.program])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the random families")
    families = ["fixed", *FAMILIES]
    default = [family for family in families if family != "needles"]
    parser.add_argument("--families", nargs="+", choices=families, default=default, metavar="NAME", help=str(families))
    parser.add_argument("--count", type=int, default=14, help="problems of each random family")
    samplers = [CERTIFICATE, *SAMPLERS]
    parser.add_argument("--samplers", nargs="+", choices=samplers, default=samplers, metavar="NAME", help=str(samplers))
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, with seeds 0, 1, …")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="problems whose names contain one of these")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of a reference, without compilation")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path, clock = options.folder / "results.jsonl", CPUTime()
    stored = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    done = {result.key: result for result in map(Result.from_line, stored)}
    results: list[Result] = []
    with path.open("a", encoding="utf-8") as file:
        for problem in choose(options):
            for repeat in range(options.repeat):
                for sampler in options.samplers:
                    result = done.get((problem.name, sampler, repeat))
                    if result is None:
                        result = run(problem, sampler, repeat, options.seconds, clock)
                        file.write(result.to_line() + "\n")
                        file.flush()
                        print(result, flush=True)
                    results.append(result)
    rows = list(summaries(results))
    text = table(rows)
    wrong = [result for result in results if result.is_wrong]
    text += "".join(f"\n{result}" for result in wrong)
    print(text)
    (options.folder / "gauntlet.txt").write_text(text + "\n", encoding="utf-8")
    facts = {"seed": options.seed, "seconds": options.seconds, "summary": rows}
    facts["results"] = [json.loads(result.to_line()) for result in results]
    (options.folder / "gauntlet.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", "utf-8")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
