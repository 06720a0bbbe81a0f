"""Where a run's files lie, how they are named, and how they are written whole in spite of crashes."""
