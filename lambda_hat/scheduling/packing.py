"""Tasks of a lane in packs: a worker runs each pack as one vectorised program, as far as shapes agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from lambda_hat.errors import WorkerLostError
from lambda_hat.scheduling.scheduler import AnyLane, Task

__all__ = ["PackedLane", "packed"]


def packed(lane: AnyLane, size: int, function: Callable[..., Mapping[str, Any]]) -> AnyLane:
    """The lane, whose tasks go out in packs of `size` if that is more than one.

    `function` is called with the first arguments of a pack's tasks, as a list, and the second, which they share; it
    returns each one's result under the task's name.
    """
    return PackedLane(lane, size, function) if size > 1 else lane


class PackedLane:
    """A lane that takes tasks of another, up to `max_in_flight`, until `size` of them run the same program.

    Where there are not as many, the largest pack goes out. The other lane is told of each task's progress and end as
    if it had been alone: where a worker is lost, tasks that have ended are not run again, and where it is lost once
    too often, the others go out one by one, so that only the one to blame fails.
    """

    def __init__(self, lane: AnyLane, size: int, function: Callable[..., Mapping[str, Any]]) -> None:
        self._lane = lane
        self._size = size
        self._function = function
        self._waiting: dict[Hashable, list[Task[Any]]] = defaultdict(list)  # by program
        self._packs: dict[str, list[Task[Any]]] = {}  # in flight

    @property
    def name(self) -> str:
        """Name of the wrapped lane."""
        return self._lane.name

    @property
    def label(self) -> str:
        """Label of the wrapped lane."""
        return self._lane.label

    @property
    def max_in_flight(self) -> int:
        """Bound of the wrapped lane; each task of a pack counts as one."""
        return self._lane.max_in_flight

    def next_task(self) -> Task[Any] | None:
        """The next pack."""
        self._take()
        if not self._waiting:
            return None
        program = max(self._waiting, key=lambda program: len(self._waiting[program]))
        tasks = self._waiting.pop(program)
        tasks, rest = tasks[: self._size], tasks[self._size :]
        if rest:
            self._waiting[program] = rest
        first = tasks[0]
        if len(tasks) == 1:
            pack = first
        else:
            folders, shared = [task.args[0] for task in tasks], first.args[1]
            pack = Task(f"{first.name}+{len(tasks) - 1}", self._function, (folders, shared))
        self._packs[pack.name] = tasks
        return pack

    def _take(self) -> None:
        """Ask for tasks until a pack is full."""
        num_open = sum(map(len, (*self._waiting.values(), *self._packs.values())))
        is_full = any(len(tasks) >= self._size for tasks in self._waiting.values())
        while num_open < self.max_in_flight and not is_full and (task := self._lane.next_task()) is not None:
            num_open += 1
            tasks = self._waiting[task.name if task.program is None else task.program]
            tasks.append(task)
            is_full = len(tasks) >= self._size

    def on_progress(self, task: Task[Any]) -> bool:
        """Whether any of its tasks gave a sign of life."""
        signs = [self._lane.on_progress(one) for one in self._packs[task.name]]
        return any(signs)

    def stored_result(self, task: Task[Any]) -> Any | None:
        """What all its tasks left, if all had ended."""
        tasks = self._packs[task.name]
        results = {one.name: self._lane.stored_result(one) for one in tasks}
        ended = {name: result for name, result in results.items() if result is not None}
        if len(ended) < len(tasks):
            return None
        return ended[task.name] if len(tasks) == 1 else ended

    def on_retry(self, task: Task[Any]) -> None:
        """Those that have not ended start afresh."""
        for one in self._packs[task.name]:
            if self._lane.stored_result(one) is None:
                self._lane.on_retry(one)

    def on_done(self, task: Task[Any], result: Any) -> Sequence[AnyLane]:
        """Each of them has ended."""
        tasks = self._packs.pop(task.name)
        results = {task.name: result} if len(tasks) == 1 else result
        return self._all_packed(opened for one in tasks for opened in self._lane.on_done(one, results[one.name]))

    def on_error(self, task: Task[Any], error: Exception) -> Sequence[AnyLane]:
        """Those that have not ended failed, or go out one by one where it may have been another's fault."""
        tasks = self._packs.pop(task.name)
        may_be_innocent = isinstance(error, WorkerLostError) and len(tasks) > 1
        opened: list[AnyLane] = []
        for one in tasks:
            if (stored := self._lane.stored_result(one)) is not None:
                opened += self._lane.on_done(one, stored)
            elif may_be_innocent:
                self._lane.on_retry(one)
                self._waiting[one.name].append(one)
            else:
                opened += self._lane.on_error(one, error)
        return self._all_packed(opened)

    def close(self) -> None:
        """Close the lane; tasks that wait are as if they were in flight."""
        self._lane.close()

    def _all_packed(self, lanes: Iterable[AnyLane]) -> Sequence[AnyLane]:
        return [packed(lane, self._size, self._function) for lane in lanes]
