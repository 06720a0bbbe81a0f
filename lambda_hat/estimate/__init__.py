"""One run of one method on one posterior: its estimate, what is kept of its draws, and why not to rely on it."""
