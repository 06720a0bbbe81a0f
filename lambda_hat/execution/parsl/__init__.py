"""Executors by Parsl: from a card to a running cluster that leaves no process behind."""
