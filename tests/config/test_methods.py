"""A method is three files of one name: settings, preset, and a kernel or what runs the kernels of others."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from lambda_hat.config.methods import METHODS, REPORTS, Method, parse_settings
from lambda_hat.config.methods.base import MethodSettings
from lambda_hat.config.resolve import preset_names, resolve_sampler
from lambda_hat.config.study import ExecutorMap


@pytest.mark.parametrize("method", METHODS)
def test_its_files_have_its_name(method):
    assert METHODS[method].__module__ == f"lambda_hat.config.methods.{method}"
    folder = "estimate" if METHODS[method].is_composite else "samplers"
    assert find_spec(f"lambda_hat.{folder}.{method}") is not None
    assert method in preset_names("sampler")
    assert parse_settings(method, resolve_sampler(method, {})).method == method


@pytest.mark.parametrize("method", METHODS)
def test_what_it_declares_exists(method):
    settings = METHODS[method]
    fields = {field.alias or name for name, field in settings.model_fields.items()}
    assert set(settings.slots) | set(settings.slots.values()) <= fields
    for moot in settings.without_effect:
        assert {moot.name, moot.setting} <= fields
        settings.model_validate({moot.setting: moot.value})
    assert {report.name for report in settings.reports} <= set(REPORTS)
    assert settings.smaller_steps


def test_every_method_has_a_place_of_its_own():
    assert list(METHODS)[:4] == ["sgld", "vi", "mclmc", "hmc"]
    places = [(settings.place, method) for method, settings in METHODS.items()]
    assert places == sorted(places)
    assert ExecutorMap(methods=dict.fromkeys(METHODS, "htex64")).methods.keys() == METHODS.keys()
    assert Method.__args__ == tuple(METHODS)  # pyright: ignore[reportAttributeAccessIssue]


def test_settings_import_nothing_heavy():
    code = "import sys, lambda_hat.config.methods; print(sorted({'jax', 'numpy', 'arviz_stats'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"


def test_a_report_means_the_same_to_every_method():
    for settings in METHODS.values():
        assert issubclass(settings, MethodSettings)
        for report in settings.reports:
            assert REPORTS[report.name] == report
