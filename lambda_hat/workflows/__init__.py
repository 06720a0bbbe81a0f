"""The stories that a run tells, and what they would do."""
