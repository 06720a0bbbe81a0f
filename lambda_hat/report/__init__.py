"""What a run looks like to its user: live progress, the table of trials, the summary at the end."""
