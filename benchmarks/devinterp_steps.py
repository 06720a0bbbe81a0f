"""Steps of one chain per CPU second of devinterp's SGLD, one torch thread; called by `sgld.py --devinterp PYTHON`.

It is devinterp's loop of one chain, without the observables and files of its `sample`. Prints the speed of a whole run,
with its copying, loading and clean-up, and that of further steps alone, which replay the batches of the first epoch.

    PYTHON benchmarks/devinterp_steps.py 16,32,32,1 1000 128 2000

takes layer sizes, rows of data, batch size and steps, with the Python of an environment that has devinterp and torch
(and need not have this project).
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import torch
from devinterp.optim.sgld import SGLD
from devinterp.slt.sampler import sample_single_chain


class Rows(torch.utils.data.Dataset):
    """Normal inputs and outputs, under the names that devinterp asks for."""

    def __init__(self, num_data: int, num_inputs: int) -> None:
        self.inputs, self.outputs = torch.randn(num_data, num_inputs), torch.randn(num_data, 1)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.inputs[index], "outputs": self.outputs[index]}


def evaluate(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, object]]:
    return torch.nn.functional.mse_loss(model(batch["input_ids"]), batch["outputs"]), {}


def main() -> None:
    sizes = [int(size) for size in sys.argv[1].split(",")]
    num_data, batch_size, num_steps = map(int, sys.argv[2:])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [layer for pair in pairwise(sizes) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers[:-1])
    data, masks = Rows(num_data, sizes[0]), {name: None for name, _ in model.named_parameters()}

    def seconds(steps: int) -> float:
        start = time.process_time()
        sample_single_chain(
            model,
            data,
            evaluate,
            masks,
            num_draws=steps,
            sampling_method=SGLD,
            sampling_method_kwargs={"lr": 1e-7, "localization": 1000.0, "nbeta": 100.0},
            batch_size=batch_size,
            seed=0,
            dataloader_seed=0,
        )
        return time.process_time() - start

    seconds(10)
    whole, longer = seconds(num_steps), seconds(3 * num_steps)
    print(num_steps / whole, 2 * num_steps / (longer - whole))


if __name__ == "__main__":
    main()
