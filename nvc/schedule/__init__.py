"""Independent tasks in this process, in processes beside it, or on a Ray cluster; one interface.

    with open_scheduler(jobs=4) as scheduler:
        for number, result in scheduler.map(function, (Task((part,)) for part in parts)):
            ...

Points of a benchmark, GOPs of a long encode and groups of a fit go through here. What is exchanged
is pickled, so only our own processes may be at the other end: never a file, never a stranger.
"""

from nvc.schedule.scheduler import Scheduler, open_scheduler
from nvc.schedule.task import Task, WorkerError

__all__ = ["Scheduler", "Task", "WorkerError", "open_scheduler"]
