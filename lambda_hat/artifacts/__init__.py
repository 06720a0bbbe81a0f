"""Where a run's files lie, what they are called, and how they are written so that a crash never leaves half of one."""
