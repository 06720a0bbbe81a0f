"""λ̂ by devinterp's SGLD of a network in a file; called by `comparison.py --devinterp PYTHON`.

`sample` wants tokens: rows are given by their numbers, and the loss looks them up. Prints JSON: a row for each step
size, with λ̂ as `compute_llc` gives it, which averages over all steps, and over those after the burn-in alone.

    PYTHON benchmarks/devinterp_llc.py PROBLEM.npz

takes a file of `comparison.py`, with the Python of an environment that has devinterp and torch (and need not have this
project).
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
import torch
from devinterp.slt.llc import compute_llc
from devinterp.slt.sampling import sample
from devinterp_steps import RowNumbers


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    problem = np.load(sys.argv[1])
    settings = json.loads(str(problem["settings"]))
    inputs, outputs = (torch.tensor(problem[name], dtype=torch.float32) for name in ("inputs", "outputs"))

    def build() -> torch.nn.Module:
        layers: list[torch.nn.Module] = []
        for index in range(settings["num_layers"]):
            weights, bias = (torch.tensor(problem[f"{name}{index}"], dtype=torch.float32) for name in ("w", "b"))
            layer = torch.nn.Linear(*weights.shape)
            layer.weight.data, layer.bias.data = weights.T.contiguous(), bias
            layers += [layer, torch.nn.Tanh()]
        return torch.nn.Sequential(*layers[:-1])

    def losses(model: torch.nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
        rows = input_ids[:, 0]
        return settings["weight"] * (model(inputs[rows]) - outputs[rows]) ** 2

    num_burn_in = settings["num_steps"] // 4
    found = []
    for step_size in settings["step_sizes"]:
        start = time.process_time()
        samples = sample(
            build(),
            RowNumbers(len(inputs)),
            {},
            lr=step_size,
            n_beta=settings["nbeta"],
            localization=settings["localization"],
            num_chains=settings["num_chains"],
            num_draws=settings["num_steps"] - num_burn_in,
            num_burnin_steps=num_burn_in,
            batch_size=settings["batch_size"],
            num_init_loss_batches=-(-len(inputs) // settings["batch_size"]),
            match_sampling_input_ids_across_chains=False,
            loss_fn=losses,
            device="cpu",
        )
        result = compute_llc(samples)
        seconds = time.process_time() - start
        trace = np.asarray(result.loss_trace, np.float64)
        kept = settings["nbeta"] * (trace[:, -(settings["num_steps"] - num_burn_in) :] - float(result.init_loss))
        found.append(
            {
                "step_size": step_size,
                "llc": float(result.llc_mean),
                "std_of_chains": float(result.llc_std),
                "llc_after_burn_in": float(kept.mean()),
                "std_of_chains_after_burn_in": float(kept.mean(axis=1).std(ddof=1)),
                "seconds": seconds,
                "num_recorded": trace.shape[1],
            }
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
