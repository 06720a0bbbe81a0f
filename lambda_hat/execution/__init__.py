"""Where tasks run: routing to executor labels, Parsl configurations from cards, and the running cluster."""
