"""Keeping executors busy: the scheduler, its lanes, and the folders of the tasks that they submit."""
