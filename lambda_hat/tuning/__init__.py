"""The search for good hyperparameters: what to try next, how good it was, and how many trials run at once."""
