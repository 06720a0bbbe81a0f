"""Steps of one chain per CPU second of devinterp's `sample`, one torch thread; called by `sgld.py --devinterp PYTHON`.

`sample` wants tokens: rows are given by their numbers, and the loss looks them up. There are no observables. Prints the
speed of a whole run, with its files, and that of further steps alone, which replay the batches of the first epoch.

    PYTHON benchmarks/devinterp_steps.py 16,32,32,1 1000 128 2000

takes layer sizes, rows of data, batch size and steps, with the Python of an environment that has devinterp and torch
(and need not have this project).
"""

from __future__ import annotations

import sys
import time
import warnings
from itertools import pairwise

import torch
from devinterp.slt.sampling import sample


class RowNumbers(torch.utils.data.Dataset):
    """The number of a row and a token that nobody looks at, under the name that devinterp asks for."""

    def __init__(self, num_data: int) -> None:
        self.num_data = num_data

    def __len__(self) -> int:
        return self.num_data

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([index, 0])}


def main() -> None:
    sizes = [int(size) for size in sys.argv[1].split(",")]
    num_data, batch_size, num_steps = map(int, sys.argv[2:])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    layers = [layer for pair in pairwise(sizes) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers[:-1])
    inputs, outputs = torch.randn(num_data, sizes[0]), torch.randn(num_data, 1)

    def losses(model: torch.nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
        rows = input_ids[:, 0]
        return (model(inputs[rows]) - outputs[rows]) ** 2

    def seconds(steps: int) -> float:
        start = time.process_time()
        sample(
            model,
            RowNumbers(num_data),
            {},
            lr=1e-7,
            n_beta=100.0,
            localization=1000.0,
            num_chains=1,
            num_draws=steps,
            batch_size=batch_size,
            num_init_loss_batches=1,
            loss_fn=losses,
            device="cpu",
        )
        return time.process_time() - start

    seconds(10)
    whole, longer = seconds(num_steps), seconds(3 * num_steps)
    print(num_steps / whole, 2 * num_steps / (longer - whole))


if __name__ == "__main__":
    main()
