"""Cards of every type: all faults at once, each where it stands, and `--set` down to entries of lists."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from lambda_hat.config.card import InlineCard, KubernetesCard, LocalCard, PBSCard, SlurmCard
from lambda_hat.config.explain import json_schema
from lambda_hat.config.load import load_cfg
from lambda_hat.config.locate import YamlLoader, dotted
from lambda_hat.errors import ConfigError
from lambda_hat.workflows.plan import check_execution
from tests.sites import SITES, filled_in

Write = Callable[..., str]

REPOSITORY = Path(__file__).parents[2]
STUDY = REPOSITORY / "config/optuna/quickstart.yaml"
SHIPPED = sorted((REPOSITORY / "config/parsl").rglob("*.yaml"))

FAULTY = {
    "local": (
        """\
type: local
run_dir: trials
retries: -1
executors:
  - label: gpu
    max_workers: 4
    available_accelerators: [0, 1, 0, "x y"]
    memory_fraction: 1.5
    cores_per_work: 1
  - label: gpu
    max_worker: 2
    cores_per_worker: 0
    memory_fraction: 0.5
  - {label: packed, max_workers: 3, available_accelerators: 1, memory_fraction: 0.4}
  - available_accelerators: -2
""",
        """\
card.yaml:2:10  run_dir: found 'trials' (text), expected none of the run's own folders (`problems`, `trials`, \
`studies`, `tables`, `meta`, `cache`)
card.yaml:3:10  retries: found -1, expected a whole number of at least 0
card.yaml:7:36  executors.0.available_accelerators.2: found 0 again, expected GPUs that differ
    For more workers, raise `max_workers`.
card.yaml:7:39  executors.0.available_accelerators.3: found 'x y', expected a whole number of at least 0 or \
the number or name of a GPU
card.yaml:8:22  executors.0.memory_fraction: found 1.5, expected a number greater than 0 and at most 1 or null
card.yaml:9:5  executors.0.cores_per_work: unknown key; expected one of `label`, `max_workers`, `cores_per_worker`, \
`available_accelerators`, `memory_fraction`, `worker_init`
    Did you mean `cores_per_worker`?
card.yaml:10:12  executors.1.label: found 'gpu' again, expected labels that differ
    `executors.0` has it already.
card.yaml:11:5  executors.1.max_worker: unknown key; expected one of `label`, `max_workers`, `cores_per_worker`, \
`available_accelerators`, `memory_fraction`, `worker_init`
    Did you mean `max_workers`?
card.yaml:12:23  executors.1.cores_per_worker: found 0, expected a number greater than 0
card.yaml:13:5  executors.1.memory_fraction: found 0.5, which has no effect without `available_accelerators`
    Remove it.
card.yaml:14:81  executors.2.memory_fraction: found 0.4 for each of 3 workers on one GPU, expected 1 or less in all
    Lower it, or `max_workers`.
card.yaml:15:5  executors.3.label: missing; expected a name of letters, digits, `-` and `_`
card.yaml:15:29  executors.3.available_accelerators: found -2, expected a whole number of at least 0 or a list""",
    ),
    "inline": (
        """\
type: inline
labels: [htex64, htex32, htex64, 7]
retries: 1
""",
        """\
card.yaml:2:26  labels.2: found 'htex64' again, expected labels that differ
    `labels.0` has it already.
card.yaml:2:34  labels.3: found 7, expected a name of letters, digits, `-` and `_`
card.yaml:3:1  retries: unknown key; expected one of `type`, `labels`""",
    ),
    "slurm": (
        """\
type: slurm
partitions: cpu
walltime: 4h
init_blocks: 5
max_blocks: 2
gpus_per_node: "4"
scheduler_options_extra: "#SBATCH --nice"
max_workers: all
""",
        """\
card.yaml:2:1  partitions: unknown key; expected one of FIELDS
    Did you mean `partition`?
card.yaml:3:11  walltime: found '4h', expected a time as [days-]HH:MM:SS
    For 90 seconds write "00:01:30", for 90 minutes "01:30:00".
card.yaml:4:14  init_blocks: found 5, expected at most `max_blocks` (2)
card.yaml:6:16  gpus_per_node: found '4' (text), expected a whole number greater than 0 or null
    Remove the quotes.
card.yaml:7:26  scheduler_options_extra: found '#SBATCH --nice' (text), expected a list
card.yaml:8:14  max_workers: found 'all', expected a whole number greater than 0 or `auto`""",
    ),
    "pbs": (
        """\
type: pbs
queue: 7
select_options: ":ngpus=4"
scheduler_options_extra: ["#PBS -V", 3]
nodes_per_block: 0
wall_time: "01:00:00"
run_dir: ../elsewhere
""",
        """\
card.yaml:2:8  queue: found 7, expected one word, as it can stand in a job script or null
    Put quotes around it.
card.yaml:3:17  select_options: found ':ngpus=4', expected text like `ngpus=4:mem=8gb`, with no `:` in front
card.yaml:4:38  scheduler_options_extra.1: found 3, expected text
    Put quotes around it.
card.yaml:5:18  nodes_per_block: found 0, expected a whole number greater than 0
card.yaml:6:1  wall_time: unknown key; expected one of FIELDS
    Did you mean `walltime`?
card.yaml:7:10  run_dir: found '../elsewhere', expected a name of letters, digits, `-` and `_`""",
    ),
    "kubernetes": (
        """\
type: kubernetes
image: lambda-hat:1
namespace: My_Team
address: tcp://10.0.0.1/
persistent_volumes:
  - {claim: runs, path: runs}
  - {claim: data, mount: /data}
min_blocks: 3
walltime: "01:00:00"
""",
        """\
card.yaml:3:12  namespace: found 'My_Team', expected a name of small letters, digits and `-`
card.yaml:4:10  address: found 'tcp://10.0.0.1/', expected the name or number of a host
card.yaml:6:25  persistent_volumes.0.path: found 'runs', expected a path that begins with `/`
card.yaml:7:5  persistent_volumes.1.path: missing; expected a path that begins with `/`
card.yaml:7:19  persistent_volumes.1.mount: unknown key; expected one of `claim`, `path`
card.yaml:8:13  min_blocks: found 3, expected at most `max_blocks` (1)
card.yaml:9:1  walltime: unknown key; expected one of FIELDS""",
    ),
}


def fields_of_unknown_keys(text: str) -> str:
    """The lists of all fields of block cards replaced by one word, since another test says which they are."""
    lines = []
    for line in text.splitlines():
        head, found, names = line.partition("unknown key; expected one of ")
        lines.append(head + found + ("FIELDS" if "`init_blocks`" in names else names))
    return "\n".join(lines)


@pytest.mark.parametrize("card_type", FAULTY)
def test_all_faults_of_a_card_come_at_once_each_in_its_place(study_file: Write, card_type: str) -> None:
    text, expected = FAULTY[card_type]
    Path("card.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_cfg(study_file(), parsl_card="card.yaml")
    assert fields_of_unknown_keys(str(caught.value)) == expected


JOINT = {  # by the text of a card: its fault
    "type: slurm\nnodes_per_block: 2\nlauncher: single_node\ncores_per_node: 4\n": "card.yaml:3:11  launcher: found "
    "'single_node', which would start all workers of 2 nodes on the first, expected `auto`",
    "type: pbs\nlauncher_overrides: --ppn 1\ncores_per_node: 4\n": "card.yaml:2:1  launcher_overrides: found '--ppn 1' "
    "(text), which has no effect with `launcher: auto` on one node\n    Name the `launcher`, or remove it.",
    "type: pbs\nlauncher: srun\ncores_per_node: 4\n": "card.yaml:2:11  launcher: found 'srun', expected one of `auto`, "
    "`single_node`, `mpiexec`, `mpirun`\n    Did you mean `mpirun`?",
    "type: slurm\naddress: 10.0.0.1\ninterface: lo\ncores_per_node: 4\n": "card.yaml:3:1  interface: found beside "
    "`address`; expected one of the two",
    "type: slurm\ngpu_type: a100\ncores_per_node: 4\n": "card.yaml:2:1  gpu_type: found 'a100' (text), which has no "
    "effect without `gpus_per_node`\n    Remove it.",
    "type: slurm\ngpu_type: a100\ngpu_directive: none\ngpus_per_node: 4\n": "card.yaml:2:1  gpu_type: found 'a100' "
    "(text), which has no effect without another `gpu_directive`\n    Remove it.",
    "type: pbs\nresources: {walltime: '1'}\ncores_per_node: 4\n": "card.yaml:2:13  resources.walltime: this is what "
    "`walltime` is for\n    Remove it here.",
    "type: pbs\nresources: {place: a b}\ncores_per_node: 4\n": "card.yaml:2:20  resources.place: found 'a b', expected "
    "one word, as it can stand in a job script or a whole number of at least 0",
    "type: kubernetes\nimage: i\naddress: h\nuser_id: 1000\ncores_per_node: 4\n": "card.yaml:4:1  user_id: has no "
    "effect without `group_id`\n    Give `group_id` too.",
    "type: slurm\ncpu_affinity: packed\ncores_per_node: 4\n": "card.yaml:2:15  cpu_affinity: found 'packed', expected "
    "`none`, `block`, `block-reverse`, `alternating` or text like `list:0-3:4-7`",
    "type: slurm\naccount: my project\ncores_per_node: 4\n": "card.yaml:2:10  account: found 'my project', expected "
    "one word, as it can stand in a job script or null",
}


@pytest.mark.parametrize("text", JOINT)
def test_fields_that_contradict_each_other_are_faults(study_file: Write, text: str) -> None:
    Path("card.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_cfg(study_file(), parsl_card="card.yaml")
    assert str(caught.value) == JOINT[text]


FAULTS_OF_NODES = {
    "cpu_affinity: list:0-3:4-7\nmax_workers: 3\n": "cpu_affinity: names the cores of 2, but a node has 3 "
    "(`max_workers`).",
    "cpu_affinity: block\ncores_per_node: 4\nmax_workers: 8\n": "cpu_affinity: pins workers to cores of their own, "
    "but 8 share 4.",
    "interface: none0\nmax_workers: 1\n": "interface: this machine has no interface `none0` with an IPv4 address; it "
    "has `lo`",
}


@pytest.mark.parametrize("text", FAULTS_OF_NODES)
def test_workers_and_addresses_that_cannot_be_are_faults(study_file: Write, text: str) -> None:
    Path("card.yaml").write_text(f'type: slurm\n{text}walltime: "48:00:00"\n')
    (fault,) = check_execution(load_cfg(study_file(), parsl_card="card.yaml"))
    assert f"{fault.key}: {fault.message}".startswith(FAULTS_OF_NODES[text])
    assert (fault.source, fault.line) == ("card.yaml", 2)


@pytest.mark.parametrize("card", SITES, ids=lambda card: card.stem)
def test_the_card_of_a_site_is_refused_until_it_is_filled_in(card: Path) -> None:
    arguments = filled_in(card)
    with pytest.raises(ConfigError) as caught:
        load_cfg(STUDY, parsl_card=str(card))
    assert [fault.key for fault in caught.value.faults] == [argument.partition("=")[0] for argument in arguments]
    for fault in caught.value.faults:
        assert "is not filled in" in fault.message
        assert f"`--set {fault.key}=NAME`" in fault.hint
    assert check_execution(load_cfg(STUDY, arguments, parsl_card=str(card))) == []


def test_a_placeholder_in_an_argument_is_a_fault_of_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load_cfg(STUDY, ["account=<your account>"], parsl_card=str(REPOSITORY / "config/parsl/pbs.yaml"))
    assert str(caught.value).startswith('--set "account=<your account>"  account: `<your account>` is not filled in\n')


GPUS = "executors.1.available_accelerators"
OPTIONS = "scheduler_options_extra"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("slurm/cpu", SlurmCard),
        ("pbs", PBSCard),
        ("kubernetes", KubernetesCard),
        ("local-gpu", LocalCard),
        ("inline", InlineCard),
    ],
)
def test_examples_show_every_field(name: str, model: type[BaseModel]) -> None:
    shown = yaml.safe_load((REPOSITORY / f"config/parsl/{name}.yaml").read_text(encoding="utf-8"))
    assert shown.keys() == model.model_fields.keys()


def test_the_schema_knows_every_type() -> None:
    definitions = json_schema("card")["$defs"]
    for model in (InlineCard, LocalCard, SlurmCard, PBSCard, KubernetesCard):
        assert definitions[model.__name__]["properties"].keys() == model.model_fields.keys()


@pytest.mark.parametrize("name", ["pbs", "slurm/cpu"])
def test_a_budget_beyond_the_walltime_is_a_fault_of_both_types_with_one(name: str) -> None:
    card = str(REPOSITORY / f"config/parsl/{name}.yaml")
    loaded = load_cfg(STUDY, ["execution.budget.hmc_sec=9000", "walltime=02:00:00"], parsl_card=card)
    (fault,) = check_execution(loaded)
    assert (fault.source, fault.key) == ('--set "execution.budget.hmc_sec=9000"', "execution.budget.hmc_sec")
    assert fault.message == "9000 s, but a block of the Parsl card ends after 7200 s (walltime: 02:00:00)."


SETS: list[tuple[str, str, list[str | int], Any]] = [
    ("local", "executors.0.max_workers=4", ["executors", 0, "max_workers"], 4),
    ("local", "executors.1.worker_init=export A=1", ["executors", 1, "worker_init"], "export A=1"),
    ("local", "executors=[{label: one}]", ["executors", 0, "label"], "one"),
    ("local-gpu", f"{GPUS}=4", ["executors", 1, "available_accelerators"], 4),
    ("local-gpu", f"{GPUS}=[0, GPU-5a]", ["executors", 1, "available_accelerators"], [0, "GPU-5a"]),
    ("local-gpu", "executors.1.memory_fraction=0.4", ["executors", 1, "memory_fraction"], 0.4),
    ("slurm/cpu", f"{OPTIONS}=['#SBATCH --nice', '#SBATCH --requeue']", [OPTIONS, 1], "#SBATCH --requeue"),
    ("slurm/gpu-a100", "walltime=2-00:00:00", ["walltime"], "2-00:00:00"),
    ("inline", "labels=[only]", ["labels", 0], "only"),
    ("pbs", f"{OPTIONS}=['#PBS -V']", [OPTIONS], ["#PBS -V"]),
    ("pbs", "max_blocks=1e1", ["max_blocks"], 10),
    ("kubernetes", "persistent_volumes.0.path=/data", ["persistent_volumes", 0, "path"], "/data"),
    ("kubernetes", "run_dir=logs", ["run_dir"], "logs"),
]


@pytest.mark.parametrize(("card", "argument", "path", "value"), SETS, ids=[f"{card} {arg}" for card, arg, *_ in SETS])
def test_set_reaches_every_part_of_a_card(card: str, argument: str, path: list[str | int], value: object) -> None:
    found: Any = load_cfg(STUDY, [argument], parsl_card=str(REPOSITORY / f"config/parsl/{card}.yaml")).card.to_dict()
    for part in path:
        found = found[part]
    assert found == value


def test_later_arguments_go_on_from_earlier_ones(repository: Path) -> None:
    arguments = ["scheduler_options_extra=['#SBATCH --nice', x]", "scheduler_options_extra.1='#SBATCH --requeue'"]
    card = load_cfg(STUDY, arguments, parsl_card="config/parsl/slurm/cpu.yaml").card
    assert card.to_dict()["scheduler_options_extra"] == ["#SBATCH --nice", "#SBATCH --requeue"]


WRONG_SETS = {
    "executors.2.max_workers=4": "executors.2: found `2`, expected the place of an entry, 0 to 1",
    "executors.first.max_workers=4": "executors.first: found `first`, expected the place of an entry, 0 to 1",
    "executors.0.max_workers=four": "executors.0.max_workers: found 'four', expected a whole number greater than 0 or "
    "`auto`",
    "executors.0.max_worker=4": "executors.0.max_worker: unknown key; expected one of `label`, `max_workers`, "
    "`cores_per_worker`, `available_accelerators`, `memory_fraction`, `worker_init`\n    Did you mean `max_workers`?",
    "run_dir=#logs": "run_dir: found '#logs', expected a name of letters, digits, `-` and `_`",
    "retries=2 # of a kind": "retries: the value is not valid YAML: `#` begins a comment\n"
    "    Put quotes around the value.",
    "executors=[]": "executors: found an empty list, expected a list with at least one entry",
    "executors.1.label=htex64": "executors.1.label: found 'htex64' again, expected labels that differ\n"
    "    `executors.0` has it already.",
    "scheduler_options_extra=['#SBATCH --nice']": "scheduler_options_extra: cards of type `slurm` or `pbs` have this "
    "field, but config/parsl/local.yaml is of type `local`\n"
    "    Fields of `local` cards: type, run_dir, retries, executors.",
}


def test_wrong_arguments_come_all_at_once_too(repository: Path) -> None:
    for argument, expected in WRONG_SETS.items():
        with pytest.raises(ConfigError) as caught:
            load_cfg(STUDY, [argument], parsl_card="config/parsl/local.yaml")
        assert str(caught.value) == f'--set "{argument}"  {expected}'
    together = [argument for argument in WRONG_SETS if argument != "executors=[]"]
    with pytest.raises(ConfigError) as caught:
        load_cfg(STUDY, together, parsl_card="config/parsl/local.yaml")
    assert {fault.source for fault in caught.value.faults} == {f'--set "{argument}"' for argument in together}


def keys(node: yaml.Node | None, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], yaml.Node]]:
    found = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found += [((*path, key.value), key), *keys(value, (*path, key.value))]
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += keys(value, (*path, index))
    return found


KEYS = [
    (card, path, key)
    for card in SHIPPED
    for path, key in keys(YamlLoader(card.read_text(encoding="utf-8")).get_single_node())
    if path[0] != "resources" or len(path) == 1  # of any names
]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=50)
@given(place=st.sampled_from(KEYS), name=st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_a_key_renamed_to_an_unknown_one_is_found_in_its_line_and_column(place: Any, name: str) -> None:
    card, path, key = place
    lines = card.read_text(encoding="utf-8").splitlines()
    row, start, end = key.start_mark.line, key.start_mark.column, key.end_mark.column
    lines[row] = f"{lines[row][:start]}{name}_x{lines[row][end:]}"  # no field ends like this
    with tempfile.TemporaryDirectory() as folder:
        mutated = Path(folder) / "card.yaml"
        mutated.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_cfg(STUDY, parsl_card=str(mutated))
    faults = {(fault.line, fault.column) for fault in caught.value.faults}
    assert (row + 1, start + 1) in faults or path == ("type",), str(caught.value)
    assert path != ("type",) or caught.value.faults[0].key == "type"


@pytest.mark.slow
@settings(max_examples=50)
@given(place=st.sampled_from(KEYS), value=PLAIN)
def test_any_value_loads_or_is_a_fault_of_its_argument(place: Any, value: object) -> None:
    card, path, _ = place
    argument = f"{dotted(path)}={json.dumps(value)}"
    with contextlib.suppress(ConfigError):
        load_cfg(STUDY, [argument], parsl_card=str(card))


@pytest.mark.parametrize("text", ["my project", "a\n#SBATCH --uid=0", "a#b", '"a"', "a\\"])
@pytest.mark.parametrize("name", ["account", "partition", "qos", "constraint", "gpu_type"])
def test_a_word_of_a_job_script_is_one_word(repository: Path, name: str, text: str) -> None:
    argument = f"{name}={json.dumps(text)}"
    with pytest.raises(ConfigError, match=f"{name}: found .* expected one word, as it can stand in a job script"):
        load_cfg(STUDY, [argument], parsl_card="config/parsl/slurm/cpu.yaml")


def test_what_nodes_must_have_may_be_an_expression(repository: Path) -> None:
    words = ["constraint=[rack1*2&rack2*4]|a100-80", "account=m1234_g", "partition=cpu,long"]
    card = load_cfg(STUDY, words, parsl_card="config/parsl/slurm/cpu.yaml").card
    assert card.to_dict()["constraint"] == "[rack1*2&rack2*4]|a100-80"
