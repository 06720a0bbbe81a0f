"""The LLC of a PyTorch classifier. It needs `pip install torch==2.13.0 torchax==0.0.13`."""

import torch

import lambda_hat

torch.manual_seed(0)
inputs = torch.randn(400, 4)
labels = (inputs[:, 0] + 0.5 * torch.randn(400) > 0).long() + (inputs[:, 1] + 0.5 * torch.randn(400) > 0).long()
module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(6, 3))
module.eval()  # as it is to be estimated


def loss(module, batch):
    """The loss of every row."""
    inputs, labels = batch
    return torch.nn.functional.cross_entropy(module(inputs), labels, reduction="none")


optimizer = torch.optim.LBFGS(module.parameters(), max_iter=2000, tolerance_grad=1e-7, line_search_fn="strong_wolfe")


def closure():
    """One evaluation of the regularised loss, for L-BFGS."""
    optimizer.zero_grad()
    value = loss(module, (inputs, labels)).mean() + 1e-4 * sum(p.square().sum() for p in module.parameters())
    value.backward()
    return value


optimizer.step(closure)
loss_fn, params, data = lambda_hat.from_torch(module, loss, (inputs, labels))
result = lambda_hat.estimate_llc(loss_fn, params, data, localization={"radius": 0.1})
print(result)
last = lambda_hat.estimate_llc(loss_fn, params, data, sampled="params/3.*", localization={"radius": 0.1})
print("the last layer:", last)
