"""The command `lambda-hat`: each command parses, calls and prints, and imports what it calls when it runs."""

from lambda_hat.cli.app import main

__all__ = ["main"]
