"""The command `lambda-hat`: every command parses, calls and prints; what it calls is imported when it runs."""

from lambda_hat.cli.app import main

__all__ = ["main"]
