"""Certified references and tuned estimators of Local Learning Coefficients."""

__version__ = "0.1.0"
