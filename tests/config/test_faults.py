from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lambda_hat.config.load import load_cfg
from lambda_hat.errors import ConfigError

Write = Callable[..., str]
ETA0 = "eta0: {dist: float, low: 1e-6, high: 1e-1, log: true}"


def message(path: str, arguments: Sequence[str] = (), **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_cfg(path, arguments, **options)  # pyright: ignore[reportArgumentType]
    return str(caught.value)


SPACE = {
    "unknown hyperparameter": (
        "eta_0: {dist: float, low: 1e-6, high: 1e-1}",
        "6:5  search_space.sgld.eta_0: unknown hyperparameter of sgld.\n"
        "    Did you mean `eta0`?  `lambda-hat config schema sgld` lists them all.",
    ),
    "long name of a hyperparameter": (
        "batch_size: {dist: int, low: 1, high: 5}",
        "6:5  search_space.sgld.batch_size: unknown hyperparameter of sgld.\n"
        "    Did you mean `batch`?  `lambda-hat config schema sgld` lists them all.",
    ),
    "step size of another method": (
        "eta0: {dist: float, low: 1e-3, high: 1}\n  sghmc:\n    eta0: {dist: float, low: 1e-3, high: 1}",
        "8:5  search_space.sghmc.eta0: unknown hyperparameter of sghmc.\n"
        "    The `eta0` of sgld is twice the `eta` of sghmc.  `lambda-hat config schema sghmc` lists them all.",
    ),
    "inverted range": (
        "eta0: {dist: float, low: 2, high: 1}",
        "6:30  search_space.sgld.eta0.low: found low 2 above high 1, expected low ≤ high\n    Swap the two.",
    ),
    "logarithmic range at 0": (
        "gamma: {dist: float, low: 0, high: 1, log: true}",
        "6:31  search_space.sgld.gamma.low: found 0 for a logarithmic range, expected more than 0",
    ),
    "bound outside": (
        "eta0: {dist: float, low: 0.0, high: 1}",
        "6:30  search_space.sgld.eta0.low: found 0.0, expected a number greater than 0",
    ),
    "choice outside": (
        "precond_type: {dist: categorical, choices: [none, rmspro]}",
        "6:55  search_space.sgld.precond_type.choices.1: found 'rmspro', expected one of `none`, `rmsprop`, "
        "`adam`, `whitened`\n"
        "    Did you mean `rmsprop`?",
    ),
    "no choices": (
        "batch: {dist: categorical, choices: []}",
        "6:41  search_space.sgld.batch.choices: found an empty list, expected a list with at least one entry",
    ),
    "the same choice twice": (
        "batch: {dist: categorical, choices: [32, 64, 32, 64.0]}",
        "6:50  search_space.sgld.batch.choices.2: found 32 again, expected choices that differ\n"
        "    `search_space.sgld.batch.choices.0` has it already.\n"
        "study.yaml:6:54  search_space.sgld.batch.choices.3: found 64.0 again, expected choices that differ\n"
        "    `search_space.sgld.batch.choices.1` is 64, the same value.",
    ),
    "a truth value beside a number": (
        "batch: {dist: categorical, choices: [1, true]}",
        "6:45  search_space.sgld.batch.choices.1: found true (a truth value) again, expected choices that differ\n"
        "    `search_space.sgld.batch.choices.0` is 1, the same value.",
    ),
    "a range beyond 32 bits": (
        "steps: {dist: int, low: 1, high: 1e30}",
        "6:38  search_space.sgld.steps.high: found 1e+30, expected at most 2147483647",
    ),
    "a range beyond float32": (
        "eta0: {dist: float, low: 1e-50, high: 1e40}",
        "6:30  search_space.sgld.eta0.low: found 1e-50, expected at least 1e-30\n"
        "study.yaml:6:43  search_space.sgld.eta0.high: found 1e+40, expected at most 1e+30",
    ),
    "fractional steps": (
        "steps: {dist: float, low: 1, high: 2}",
        "6:19  search_space.sgld.steps.dist: found 'float', but `steps` is a whole number; expected `int`",
    ),
    "range of what is no number": (
        "dtype: {dist: int, low: 1, high: 2}",
        "6:19  search_space.sgld.dtype.dist: found 'int', but `dtype` is no number; expected `categorical`",
    ),
    "steps that miss the end": (
        "steps: {dist: int, low: 10, high: 25, step: 10}",
        "6:39  search_space.sgld.steps.high: steps of 10 from 10 miss high 25, expected to end there\n"
        "    Use 20 or 30.",
    ),
    "logarithmic steps": (
        "steps: {dist: int, low: 10, high: 30, step: 10, log: true}",
        "6:49  search_space.sgld.steps.step: found 10 with `log: true`, expected no step in a logarithmic range\n"
        "    Remove `step`, or set `log: false`.",
    ),
    "unknown distribution": (
        "eta0: {dist: flot, low: 1, high: 2}",
        "6:18  search_space.sgld.eta0.dist: found 'flot', expected one of `float`, `int`, `categorical`\n"
        "    Did you mean `float`?",
    ),
    "no distribution": (
        "eta0: {low: 1, high: 2}",
        "6:5  search_space.sgld.eta0.dist: missing; expected one of `float`, `int`, `categorical`",
    ),
    "missing bound": (
        "eta0: {dist: float, low: 1}",
        "6:5  search_space.sgld.eta0.high: missing; expected a number",
    ),
    "space of a method that tunes itself": (
        f"{ETA0}\n  auto: {{tolerance: {{dist: float, low: 0.01, high: 0.1}}}}",
        "7:9  search_space.auto: `auto` chooses its settings by itself: there is nothing to search\n"
        "    Fix settings in `samplers.auto` instead.",
    ),
    "empty space": ("{}", "3:11  methods.0: `sgld` has no search space; expected `search_space.sgld` with at least one "
        "hyperparameter\n    Add `search_space.sgld`, or take sgld from the list."),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACE)
def test_search_space(study_file: Write, name: str) -> None:
    text, expected = SPACE[name]
    methods = ("methods: [sgld]", "methods: [sgld, auto]") if "auto" in text else ("methods", "methods")
    assert message(study_file((ETA0, text), methods)) == f"study.yaml:{expected}"


def test_a_method_that_tunes_itself_needs_no_search_space(study_file: Write) -> None:
    study = load_cfg(study_file(("methods: [sgld]", "methods: [sgld, auto]"))).study
    assert (study.num_trials("sgld"), study.num_trials("auto"), study.space("auto")) == (100, 1, {})


SECTIONS = {
    "unknown section": (
        "optunna: {}",
        "7:1  optunna: unknown key; expected one of `problems`, `methods`, `optuna`, `search_space`, `confirm`, "
        "`execution`, `store`, `posterior`, `reference`, `samplers`, `relative_to`\n    Did you mean `optuna`?",
    ),
    "what resolving fills in": (
        "resolved_samplers: {}",
        "7:1  resolved_samplers: unknown key; expected one of `problems`, `methods`, `optuna`, `search_space`, "
        "`confirm`, `execution`, `store`, `posterior`, `reference`, `samplers`, `relative_to`\n"
        "    Did you mean `samplers`?",
    ),
    "unknown key": (
        "optuna: {pruner: {tipe: none}}",
        "7:19  optuna.pruner.tipe: unknown key; expected one of `type`, `n_startup_trials`, `n_warmup_steps`\n"
        "    Did you mean `type`?",
    ),
    "value of a closed set": (
        "optuna: {objective: {type: hubr}}",
        "7:28  optuna.objective.type: found 'hubr', expected one of `abs`, `huber`, `relative`\n"
        "    Did you mean `huber`?",
    ),
    "budget of 0": (
        "execution: {budget: {hmc_sec: 0}}",
        "7:31  execution.budget.hmc_sec: found 0, expected a number greater than 0",
    ),
    "budget that is text": (
        "execution: {budget: {trial_sec: 10m}}",
        "7:33  execution.budget.trial_sec: found '10m' (text), expected a number greater than 0",
    ),
    "infinite": (
        "execution: {budget: {trial_sec: .inf}}",
        "7:33  execution.budget.trial_sec: found .inf, expected a finite number greater than 0",
    ),
    "batch size of 0": (
        "optuna: {concurrency: {batch_size: 0}}",
        "7:36  optuna.concurrency.batch_size: found 0, expected a whole number greater than 0",
    ),
    "number in quotes": (
        'optuna: {max_trials_per_method: "5"}',
        "7:33  optuna.max_trials_per_method: found '5' (text), expected a whole number greater than 0\n"
        "    Remove the quotes.",
    ),
    "fraction": (
        "optuna: {max_trials_per_method: 2.5}",
        "7:33  optuna.max_trials_per_method: found 2.5, expected a whole number greater than 0",
    ),
    "whole number beyond 32 bits": (
        "samplers: {sgld: {chunk_size: 3000000000}}",
        "7:31  samplers.sgld.chunk_size: found 3000000000, expected at most 2147483647",
    ),
    "steps without end": (
        "samplers: {sgld: {steps: 1e30}}",
        "7:26  samplers.sgld.steps: found 1e+30, expected at most 2147483647",
    ),
    "more chains than an array has rows": (
        "samplers: {sgld: {num_chains: 2e9}}",
        "7:31  samplers.sgld.num_chains: found 2000000000.0, expected at most 1000000",
    ),
    "seed beyond 64 bits": (
        "reference: {seed: 9223372036854775808}",
        "7:19  reference.seed: found 9223372036854775808, expected at most 2147483647",
    ),
    "time that no timer takes": (
        "execution: {budget: {trial_sec: 1e30}}",
        "7:33  execution.budget.trial_sec: found 1e+30, expected at most 1e+09",
    ),
    "warm-up that never ends": (
        "optuna: {pruner: {type: hyperband, n_warmup_steps: 10}}",
        "7:52  optuna.pruner.n_warmup_steps: found 10, expected a whole number of at least 0 and at most 9",
    ),
    "fewer slots than the search needs": (
        "samplers: {vi: {max_components: 2, max_rank: 1, r: 2}}",
        "7:33  samplers.vi.max_components: found 2, expected at least the largest `M`, which is 4\n"
        "    Leave it out: it is as large as needed.\n"
        "study.yaml:7:46  samplers.vi.max_rank: found 1, expected at least the largest `r`, which is 2\n"
        "    Leave it out: it is as large as needed.",
    ),
    "truth value for a number": (
        "optuna: {max_failed_fraction: true}",
        "7:31  optuna.max_failed_fraction: found true (a truth value), expected a number of at least 0 and at most 1",
    ),
    "number for text": (
        "store: {root: 5}",
        "7:15  store.root: found 5, expected text\n    Put quotes around it.",
    ),
    "name that leaves the folder": (
        "store: {namespace: ../x}",
        "7:20  store.namespace: found '../x', expected a name of letters, digits, `-` and `_`",
    ),
    "empty section": ("store:", "7:7  store: found nothing (null), expected a mapping"),
    "list for a mapping": (
        "optuna: [1]",
        "7:9  optuna: found a list, expected a mapping",
    ),
    "member of a union": (
        "posterior: {localization: {radius: -1}}",
        "7:36  posterior.localization.radius: found -1, expected a number greater than 0",
    ),
    "no member of a union": (
        "posterior: {localization: wide}",
        "7:27  posterior.localization: found 'wide' (text), expected a number greater than 0 or a mapping",
    ),
    "unknown method": (
        "samplers: {sgdl: {}}",
        "7:12  samplers.sgdl: unknown key; expected one of `sgld`, `vi`, `mclmc`, `hmc`, `auto`, `sghmc`\n"
        "    Did you mean `sgld`?",
    ),
    "fixed setting that does not exist": (
        "samplers: {sgld: {stepps: 5}}",
        "7:19  samplers.sgld.stepps: unknown hyperparameter of sgld.\n"
        "    Did you mean `steps`?  `lambda-hat config schema sgld` lists them all.",
    ),
    "fixed setting of the wrong type": (
        "samplers: {sgld: {steps: few}}",
        "7:26  samplers.sgld.steps: found 'few' (text), expected a whole number greater than 0",
    ),
    "fixed and searched": (
        "samplers: {sgld: {eta0: 1e-3}}",
        "7:19  samplers.sgld.eta0: both fixed and searched; expected one of the two\n"
        "    Remove it here, or from `search_space.sgld`.",
    ),
    "preset that does not exist": (
        "samplers: {sgld: {preset: sgdl}}",
        "7:27  samplers.sgld.preset: found 'sgdl', expected a sampler preset: one of `auto`, `hmc`, `mclmc`, "
        "`sghmc`, `sgld`, `vi`\n"
        "    Did you mean `sgld`?",
    ),
    "preset of another method": (
        "samplers: {sgld: {preset: hmc}}",
        "7:27  samplers.sgld.preset: preset `hmc` sets `num_integration_steps`, `step_size`, `target_accept`, "
        "which sgld does not take",
    ),
    "unadjusted with a target": (
        "samplers: {mclmc: {adjusted: false}}",
        "7:30  samplers.mclmc.adjusted: found false, while `search_space.mclmc.target_accept` is searched; "
        "without adjustment it has no effect\n"
        "    Remove `target_accept` from the search space, or set `adjusted: true`.",
    ),
    "card that does not exist": (
        "execution: {parsl_card: cards/none.yaml}",
        "7:25  execution.parsl_card: found 'cards/none.yaml', expected a file, here or in the study's folder or one "
        "above it",
    ),
    "interpolation that leads nowhere": (
        'store: {root: "${stor.namespace}"}',
        "7:15  store.root: `${stor.namespace}` cannot be resolved: Interpolation key 'stor.namespace' not found\n"
        r"    Write `\${` where the text itself has `${`.",
    ),
    "interpolation that cannot be read": (
        'store: {root: "${stor"}',
        "7:15  store.root: `${stor` is not a valid interpolation\n    Expected `${section.key}`. "
        r"Write `\${` where the text itself has `${`.",
    ),
    "exact values of a network": (
        "reference: exact",
        "2:5  problems.0.target: found `mlp`, whose exact value is not known, with `reference: exact`\n"
        "    Exact values are known of `quadratic`, `linear_regression`, `potential`; others need `reference: hmc`.",
    ),
    "a reference of another kind": (
        "reference: exakt",
        "7:12  reference: found 'exakt' (text), expected `hmc`, `exact` or a mapping",
    ),
    "sampling that does not happen": (
        "reference: {method: exact, num_chains: 16}",
        "2:5  problems.0.target: found `mlp`, whose exact value is not known, with `reference: exact`\n"
        "    Exact values are known of `quadratic`, `linear_regression`, `potential`; others need `reference: hmc`.\n"
        "study.yaml:7:28  reference.num_chains: found 16, which has no effect with `method: exact`\n    Remove it.",
    ),
    "a bend that no parabola has": (
        "optuna: {objective: {type: relative, delta: 0.3}}",
        "7:38  optuna.objective.delta: found 0.3, which has no effect with `type: relative`\n"
        "    Remove it, or use `huber`.",
    ),
    "settings to try first that are not searched": (
        "optuna: {enqueue: {sgld: [preset, {eta1: 1e-3}, {eta0: 2}, {steps: 5}], vii: [], vi: [best]}}",
        "7:36  optuna.enqueue.sgld.1.eta1: `eta1` is not searched, so that it cannot be tried first\n"
        "    Did you mean `eta0`?\n"
        "study.yaml:7:56  optuna.enqueue.sgld.2.eta0: found 2, expected a number from 1e-06 to 0.1, as it is searched\n"
        "study.yaml:7:61  optuna.enqueue.sgld.3.steps: `steps` is not searched, so that it cannot be tried first\n"
        "    Add it to `search_space.sgld`, or fix it in `samplers`.\n"
        "study.yaml:7:73  optuna.enqueue.vii: unknown key; expected one of `sgld`, `vi`, `mclmc`, `hmc`, `auto`, "
        "`sghmc`\n"
        "    Did you mean `vi`?\n"
        "study.yaml:7:87  optuna.enqueue.vi.0: found 'best', expected `preset` or a mapping\n"
        "    Did you mean `preset`?",
    ),
    "key that is no text": ("5: a", "7:1  found `5` as a key, expected text\n    Put quotes around it."),
    "key given twice": (
        "methods: [sgld]",
        "7:1  methods: given twice\n    It stands in line 3 already: remove one of the two.",
    ),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_sections(study_file: Write, name: str) -> None:
    text, expected = SECTIONS[name]
    arguments = ["search_space.mclmc.target_accept={dist: float, low: 0.5, high: 0.6}"]
    assert message(study_file(tail=f"{text}\n"), arguments) == f"study.yaml:{expected}"


PROBLEMS = {
    "unknown preset": (
        "{model: smal}",
        "2:13  problems.0.model: found 'smal', expected a model preset: one of `base`, `small`\n"
        "    Did you mean `small`?",
    ),
    "preset elsewhere": (
        "{data: ../model/small}",
        "2:12  problems.0.data: found '../model/small', expected a data preset: one of `base`, `small`",
    ),
    "unknown dotted override": (
        "{overrides: {model.widht: 5}}",
        "2:18  problems.0.overrides.model.widht: unknown key; expected one of `in_dim`, `out_dim`, `depth`, `width`, "
        "`activation`, `bias`\n    Did you mean `width`?",
    ),
    "unknown nested override": (
        "{overrides: {model: {widht: 5}}}",
        "2:26  problems.0.overrides.model.widht: unknown key; expected one of `in_dim`, `out_dim`, `depth`, `width`, "
        "`activation`, `bias`\n    Did you mean `width`?",
    ),
    "override of the wrong type": (
        "{overrides: {model.width: wide}}",
        "2:31  problems.0.overrides.model.width: found 'wide' (text), expected a whole number greater than 0",
    ),
    "override given twice": (
        "{overrides: {model.width: 5, model: {width: 6}}}",
        "2:42  problems.0.overrides.model.width: given twice\n"
        "    It is set by `overrides.model.width` already: remove one of the two.",
    ),
    "seed among the overrides": (
        "{overrides: {seed: 5}}",
        "2:18  problems.0.overrides.seed: not an override; the entry has a `seed` of its own\n"
        "    Move it next to `overrides`, as `seed:`.",
    ),
    "preset of a target without": (
        "{target: quadratic, data: base}",
        "2:25  problems.0.data: target `quadratic` takes no data preset\n"
        "    Put the fields of the quadratic target itself into `overrides`.",
    ),
    "preset of a target without, by the default's name": (
        "{target: quadratic, data: small}",
        "2:25  problems.0.data: target `quadratic` takes no data preset\n"
        "    Put the fields of the quadratic target itself into `overrides`.",
    ),
    "data of other inputs": (
        "{overrides: {data.num_mixture: 7}}",
        "2:18  problems.0.overrides.data.num_mixture: it has no effect with `data.inputs: gauss_iso`\n"
        "    Remove it, or set `data.inputs: mixture`.",
    ),
    "degrees of freedom of another noise": (
        "{overrides: {data: {noise: outliers, noise_dof: 3, outlier_scale: 5}}}",
        "2:42  problems.0.overrides.data.noise_dof: it has no effect with `data.noise: outliers`\n"
        "    Remove it, or set `data.noise: student_t`.",
    ),
    "inverted curvatures": (
        "{target: quadratic, overrides: {smallest_curvature: 20}}",
        "2:57  problems.0.overrides.smallest_curvature: found smallest_curvature 20.0 above largest_curvature 10.0, "
        "expected smallest ≤ largest",
    ),
    "classes without outputs": (
        "{overrides: {loss: cross_entropy}}",
        "2:6  problems.0.overrides.model.out_dim: found 1 with loss `cross_entropy`, expected one output per class, "
        "at least 2\n    Set `model.out_dim` to the number of classes.",
    ),
    "noise on classes": (
        "{overrides: {loss: cross_entropy, model.out_dim: 3, data.noise: student_t}}",
        "2:69  problems.0.overrides.data.noise: found 'student_t' with loss `cross_entropy`, whose labels are drawn "
        "and have no added noise\n    Remove it; `data.noise_scale` is the temperature of the classes.",
    ),
    "degrees of freedom of another loss": (
        "{overrides: {loss_dof: 3}}",
        "2:28  problems.0.overrides.loss_dof: found 3 with loss `gaussian_nll`, which has no degrees of freedom\n"
        "    Remove it, or set `loss: student_t_nll`.",
    ),
    "rank above a width": (
        "{target: deep_linear, overrides: {widths: [4, 3, 4], rank: 4}}",
        "2:64  problems.0.overrides.rank: found 4, expected at most 3, the smallest of the widths\n"
        "    No product of such layers has a higher rank.",
    ),
    "fewer examples than inputs": (
        "{target: reduced_rank, overrides: {num_data: 4}}",
        "2:50  problems.0.overrides.num_data: found 4, expected at least 5, the number of inputs\n"
        "    Fewer examples leave a part of the product free.",
    ),
    "a network without hidden layers": (
        "{target: deep_linear, overrides: {widths: [4, 3]}}",
        "2:47  problems.0.overrides.widths: found a list, expected a list of at least three whole numbers "
        "greater than 0",
    ),
    "not a mapping": ("small", "2:5  problems.0: found 'small' (text), expected a mapping"),
    "the same twice": (
        "{model: small}\n  - {model: small, overrides: {data.num_data: 100}}",
        "3:5  problems.1: resolves to the same problem as `problems.0`\n    Remove one of the two.",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(study_file: Write, name: str) -> None:
    text, expected = PROBLEMS[name]
    assert message(study_file(("{model: small}", text))) == f"study.yaml:{expected}"


def test_methods(study_file: Write) -> None:
    assert message(study_file(("[sgld]", "[sgld, sgld, sgdl]"))) == (
        "study.yaml:3:17  methods.1: `sgld` is listed twice\n    Remove one of the two.\n"
        "study.yaml:3:23  methods.2: found 'sgdl', expected one of `sgld`, `vi`, `mclmc`, `hmc`, `auto`, `sghmc`\n"
        "    Did you mean `sgld`?"
    )


def test_empty_lists(study_file: Write) -> None:
    text = "problems: []\nmethods: []\n"
    assert message(study_file(text=text)) == (
        "study.yaml:1:11  problems: found an empty list, expected a list with at least one entry\n"
        "study.yaml:2:10  methods: found an empty list, expected a list with at least one entry"
    )


def test_missing_sections(study_file: Write) -> None:
    assert message(study_file(text="store: {}\n")) == (
        "study.yaml  problems: missing; expected a list with at least one entry\n"
        "study.yaml  methods: missing; expected a list with at least one entry"
    )


FILES = {
    "empty": ("", "  found an empty file, expected a mapping (`key: value` lines)"),
    "list": ("- a\n", "  found a list, expected a mapping (`key: value` lines)"),
    "text": ("hello\n", "  found only `hello`, expected a mapping (`key: value` lines)"),
    "syntax": (
        "problems: [a\nmethods: b\n",
        ":2:8  not valid YAML: expected ',' or ']', but got ':'",
    ),
    "recursion": ("problems: &a [*a]\n", ":1:11  not valid YAML: an alias refers to what contains it"),
    "tag": (
        "problems: !!python/object:os.system {}\n",
        ":1:11  not valid YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object:os.system'",
    ),
    "misfitting tag": ("problems: !!int abc\n", ":1:1  not valid YAML: a value does not fit its tag"),
}


@pytest.mark.parametrize("name", FILES)
def test_unusable_files(study_file: Write, name: str) -> None:
    text, expected = FILES[name]
    assert message(study_file(text=text)) == f"study.yaml{expected}"


def test_a_file_that_is_not_there(study_file: Write) -> None:
    study_file()
    assert message("studdy.yaml") == "studdy.yaml  there is no such file\n    Did you mean `study.yaml`?"


def test_a_file_that_is_no_text_and_a_folder(study_file: Write, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert message("binary.yaml") == "binary.yaml  cannot be read: not a text file in UTF-8"
    assert message(".") == ".  cannot be read: Is a directory"


ARGUMENTS = {
    "no value": ("optuna", '--set "optuna"  expected `key=value`, the key\'s parts joined by dots'),
    "empty part": ("optuna..x=1", '--set "optuna..x=1"  expected `key=value`, the key\'s parts joined by dots'),
    "not YAML": (
        "optuna.enqueue=[",
        '--set "optuna.enqueue=["  optuna.enqueue: the value is not valid YAML: expected the node content, '
        "but found '<stream end>'\n    Put quotes around the value.",
    ),
    "wrong value": (
        "optuna.concurrency.batch_size=0",
        '--set "optuna.concurrency.batch_size=0"  optuna.concurrency.batch_size: found 0, '
        "expected a whole number greater than 0",
    ),
    "unknown key that it created": (
        "store.rot.x=1",
        '--set "store.rot.x=1"  store.rot: unknown key; expected one of `root`, `run`, `references`, `layout_version`, '
        "`namespace`, `ttl_days`\n    Did you mean `root`?",
    ),
    "without its section": (
        "batch_size=4",
        '--set "batch_size=4"  batch_size: neither a section of the study file nor a field of the Parsl card\n'
        "    Did you mean `optuna.concurrency.batch_size`?",
    ),
    "field of another card": (
        "walltime=01:00:00",
        '--set "walltime=01:00:00"  walltime: cards of type `slurm` or `pbs` have this field, but card.yaml is of type '
        "`local`\n"
        "    Fields of `local` cards: type, run_dir, retries, executors.",
    ),
    "misspelt": (
        "excutors.0.max_workers=4",
        '--set "excutors.0.max_workers=4"  excutors.0.max_workers: neither a section of the study file nor a field of '
        "the Parsl card\n    Did you mean `executors`?",
    ),
    "no such entry": (
        "problems.1.seed=5",
        '--set "problems.1.seed=5"  problems.1: found `1`, expected the place of an entry, 0 to 0',
    ),
    "through a value": (
        "search_space.sgld.eta0.low.x=5",
        '--set "search_space.sgld.eta0.low.x=5"  search_space.sgld.eta0.low: found 1e-06, expected a mapping that '
        "could hold `x`",
    ),
    "card's entry": (
        "executors.0.max_workers=0",
        '--set "executors.0.max_workers=0"  executors.0.max_workers: found 0, '
        "expected a whole number greater than 0 or `auto`",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(study_file: Write, name: str) -> None:
    argument, expected = ARGUMENTS[name]
    Path("card.yaml").write_text("type: local\nexecutors: [{label: a}]\n")
    assert message(study_file(), [argument], parsl_card="card.yaml") == expected


CARDS = {
    "no type": (
        "executors: [{label: a}]\n",
        "  type: missing; expected one of `local`, `inline`, `slurm`, `pbs`, `kubernetes`",
    ),
    "unknown type": (
        "type: slurmm\n",
        ":1:7  type: found 'slurmm', expected one of `local`, `inline`, `slurm`, `pbs`, `kubernetes`\n"
        "    Did you mean `slurm`?",
    ),
    "unknown field": (
        "type: local\nexecutors: [{label: a}]\nretry: 1\n",
        ":3:1  retry: unknown key; expected one of `type`, `run_dir`, `retries`, `executors`\n"
        "    Did you mean `retries`?",
    ),
    "bad label": (
        "type: local\nexecutors: [{label: 5a}]\n",
        ":2:21  executors.0.label: found '5a', expected a name of letters, digits, `-` and `_`",
    ),
    "same label": (
        "type: local\nexecutors: [{label: a}, {label: a}]\n",
        ":2:33  executors.1.label: found 'a' again, expected labels that differ\n    `executors.0` has it already.",
    ),
    "walltime": (
        "type: slurm\nwalltime: 60\n",
        ":2:11  walltime: found 60, expected a time as [days-]HH:MM:SS\n"
        '    For 90 seconds write "00:01:30", for 90 minutes "01:30:00".',
    ),
    "walltime in quotes": (
        'type: slurm\nwalltime: "90"\n',
        ":2:11  walltime: found '90', expected a time as [days-]HH:MM:SS\n"
        '    For 90 seconds write "00:01:30", for 90 minutes "01:30:00".',
    ),
    "kubernetes": (
        "type: kubernetes\nimage: 5\nadress: 10.0.0.1\npersistent_volumes: [{claim: runs, pth: /x}]\nrun_dir: ../x\n",
        "  address: missing; expected the name or number of a host\n"
        "card.yaml:2:8  image: found 5, expected one word, as it can stand in a job script\n"
        "    Put quotes around it.\n"
        "card.yaml:3:1  adress: unknown key; expected one of `init_blocks`, `min_blocks`, `max_blocks`, `max_workers`, "
        "`cores_per_worker`, `cores_per_node`, `mem_per_node`, `gpus_per_node`, `cpu_affinity`, `worker_init`, "
        "`retries`, `run_dir`, `type`, `label`, `image`, `namespace`, `address`, `service_account`, `secret`, "
        "`user_id`, `group_id`, `persistent_volumes`\n"
        "    Did you mean `address`?\n"
        "card.yaml:4:22  persistent_volumes.0.path: missing; expected a path that begins with `/`\n"
        "card.yaml:4:36  persistent_volumes.0.pth: unknown key; expected one of `claim`, `path`\n"
        "    Did you mean `path`?\n"
        "card.yaml:5:10  run_dir: found '../x', expected a name of letters, digits, `-` and `_`",
    ),
    "blocks": (
        "type: slurm\nmin_blocks: 3\nmax_blocks: 2\n",
        ":2:13  min_blocks: found 3, expected at most `max_blocks` (2)",
    ),
}


@pytest.mark.parametrize("name", CARDS)
def test_cards(study_file: Write, name: str) -> None:
    text, expected = CARDS[name]
    Path("card.yaml").write_text(text)
    assert message(study_file(), parsl_card="card.yaml") == f"card.yaml{expected}"


def test_all_at_once(study_file: Write) -> None:
    Path("card.yaml").write_text("type: local\nexecutors: []\n")
    replacements = [("small", "smal"), ("[sgld]", "[sgld, vi]"), ("low: 1e-6", "low: 1")]
    tail = "execution: {parsl_card: card.yaml, budget: {trial_sec: -1}}\n"
    arguments = ["optuna.concurrency.batch_size=0", "nonsense=1"]
    assert message(study_file(*replacements, tail=tail), arguments) == (
        "study.yaml:2:13  problems.0.model: found 'smal', expected a model preset: one of `base`, `small`\n"
        "    Did you mean `small`?\n"
        "study.yaml:3:17  methods.1: `vi` has no search space; expected `search_space.vi` with at least one "
        "hyperparameter\n    Add `search_space.vi`, or take vi from the list.\n"
        "study.yaml:6:30  search_space.sgld.eta0.low: found low 1 above high 0.1, expected low ≤ high\n"
        "    Swap the two.\n"
        "study.yaml:7:56  execution.budget.trial_sec: found -1, expected a number greater than 0\n"
        "card.yaml:2:12  executors: found an empty list, expected a list with at least one entry\n"
        '--set "optuna.concurrency.batch_size=0"  optuna.concurrency.batch_size: found 0, '
        "expected a whole number greater than 0\n"
        '--set "nonsense=1"  nonsense: neither a section of the study file nor a field of the Parsl card'
    )


def test_what_else_is_wrong_with_an_entry_is_told_too(study_file: Write) -> None:
    entry = "{model: smal, sed: 3, seed: -1}"
    said = message(study_file(("{model: small}", entry), ("dist: float, low: 1e-6", "dist: flot, low: 1")))
    for fault in ("problems.0.model: found 'smal'", "problems.0.sed: unknown key", "problems.0.seed: found -1",
                  "eta0.dist: found 'flot'", "eta0.low: found low 1 above high 0.1"):  # fmt: skip
        assert fault in said
    build = message(study_file(("{model: small}", "{target: python, build: 3}")))
    assert build.count("problems.0.build") == 1
    unknown = message(study_file(("{model: small}", "{target: mlpp, model: smal}")))
    assert "smal'" not in unknown, "presets belong to targets"
