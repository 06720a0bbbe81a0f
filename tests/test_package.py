"""The package itself: light to import, and what it offers."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import pytest

import lambda_hat


def test_importing_the_package_imports_nothing_heavy():
    program = (
        "import sys, lambda_hat; print(*sorted(set(sys.modules) & {'jax', 'numpy', 'optuna', 'parsl', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_it_is_typed_and_has_one_version():
    assert (files("lambda_hat") / "py.typed").is_file()
    assert version("lambda-hat") == lambda_hat.__version__


def test_everything_public_can_be_had():
    assert {name: getattr(lambda_hat, name).__name__ for name in lambda_hat.__all__} == {
        name: name
        for name in (
            "CallProgress", "LLCResult", "LLCSeries", "Model", "Observable", "RowLosses", "SamplerCheck", "certify_llc",
            "check_sampler", "estimate_llc", "estimate_llc_series", "from_torch", "read_model",
        )
    }  # fmt: skip
    with pytest.raises(AttributeError, match="module 'lambda_hat' has no attribute 'estimate_ll'"):
        lambda_hat.estimate_ll  # noqa: B018
