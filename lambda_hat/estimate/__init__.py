"""From samples to an LLC with its error, and the certificate of a reference."""
