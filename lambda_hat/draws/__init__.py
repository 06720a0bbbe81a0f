"""From draws to an LLC with its error: traces, diagnostics, importance sampling, and the bounds they are held to."""
