"""The kinds of targets that ship: a file each, found by `lambda_hat.config.problems.registry`."""
