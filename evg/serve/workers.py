"""Worker processes with a model each, and who gives them work: a request is not lost when its worker dies."""

import asyncio
import logging
import multiprocessing
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from evg.errors import UserError
from evg.serve.refusal import Refusal
from evg.serve.worker import OK, READY, REFUSED, worker_main

LOGGER = logging.getLogger('evg.serve')

_ATTEMPTS = 2  # a request that was in two workers when they died does not get a third
_LOOK_S = 0.5  # how often an idle worker is looked at
_MAX_PAUSE_S = 30.0
_START_S = 120.0
_STOP_S = 5.0


@dataclass(eq=False)
class _Job:
    """One call of a method of `evg.serve.tasks.Tasks`."""

    task: str
    arguments: tuple
    future: Future = field(default_factory=Future)
    deaths: int = 0


class WorkerPool:
    """A queue of jobs and worker processes that take one at a time.

    A worker is a process of its own with its own model, started afresh (`spawn`); it and the server share a pipe and
    nothing else. Each has a thread here that hands it jobs and starts it again when it dies.

    Args:
        factory: makes the predictor inside a worker; it must be picklable.
        workers: how many.
        queue: how many jobs may wait; more are refused with 429.
        limit_s: how long a job may wait for a worker, and how long a worker may take for one.
        max_pixels, min_score: of a picture and of a face, for `Tasks`.
    """

    def __init__(
        self, factory: Callable[[], Any], workers: int = 1, queue: int = 64, limit_s: float = 10.0,
        max_pixels: int = 2**24, min_score: float = 0.0,
    ):  # fmt: skip
        self.limit_s, self.queue = limit_s, queue
        self.restarts = 0
        self.about: dict[str, Any] = {}
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._seats = [_Seat((factory, max_pixels, min_score)) for _ in range(workers)]
        self._threads = [threading.Thread(target=self._look_after, args=(s,), daemon=True) for s in self._seats]

    @property
    def alive(self) -> int:
        """Workers that can take a job."""
        return sum(seat.ready for seat in self._seats)

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return len(self._jobs)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that can take a job."""
        return [seat.process.pid for seat in self._seats if seat.ready]

    def start(self) -> None:
        """Start all workers and wait until they can take jobs.

        Raises:
            UserError: a worker cannot make its predictor; the message is the predictor's.
        """
        for seat in self._seats:
            seat.launch()
        try:
            for seat in self._seats:
                self.about = seat.await_ready()
        except BaseException:
            for seat in self._seats:
                seat.end(patience_s=0)
            raise
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the workers finish what they are at, refuse what waits, and end them. May be called again."""
        with self._changed:
            self._stopping = True
            waiting, self._jobs = list(self._jobs), deque()
            self._changed.notify_all()
        for job in waiting:
            _finish(job, error=Refusal(503, 'the server is stopping'))
        for seat in self._seats:
            if not seat.ready:
                seat.end(patience_s=0)  # it is only just starting
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(self.limit_s + _STOP_S)
        for seat in self._seats:
            seat.end()

    async def run(self, task: str, *arguments: Any) -> Any:
        """Have a worker do something.

        Args:
            task: a method of `evg.serve.tasks.Tasks`.
            arguments: its arguments.

        Raises:
            Refusal: the task's own, or 429 where no worker has time for it.
        """
        job = _Job(task, arguments)
        with self._changed:
            if self._stopping:
                raise Refusal(503, 'the server is stopping')
            if len(self._jobs) >= self.queue:
                raise Refusal(429, 'the server is busy')
            self._jobs.append(job)
            self._changed.notify()
        future = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait([future], timeout=self.limit_s)
            if not future.done() and job.future.cancel():
                raise Refusal(429, 'the server is busy')
            # A worker has it, or had it and died: that may happen once more, and starting one takes a while.
            await asyncio.wait([future], timeout=2 * self.limit_s + _START_S)
            if not future.done():
                raise Refusal(503, 'no worker could be started')
            return await future
        finally:
            future.cancel()  # where nobody waits any more; a job that has begun runs to its end

    def _take(self) -> _Job | None:
        """The next job, or None if there was none for a while or the pool is stopping."""
        with self._changed:
            if not self._jobs and not self._stopping:
                self._changed.wait(_LOOK_S)
            while self._jobs:
                job = self._jobs.popleft()
                if job.deaths or job.future.set_running_or_notify_cancel():
                    return job
            return None

    def _look_after(self, seat: '_Seat') -> None:
        """What the thread of a worker does, all its life."""
        while not self._stopping:
            if not seat.lives():
                self._restart(seat)
                continue
            job = self._take()
            if job is None:
                continue
            try:
                kind, value = seat.ask(job, self.limit_s)
            except TimeoutError:
                seat.end(patience_s=0)
                _finish(job, error=Refusal(422, f'this took longer than {self.limit_s:g} s'))
            except (EOFError, OSError):
                self._again(job)
            else:
                _finish(job, value, _error_of(kind, value))

    def _again(self, job: _Job) -> None:
        """Give a job whose worker died to the next one."""
        job.deaths += 1
        if job.deaths >= _ATTEMPTS:
            LOGGER.error('a request ended %d workers: %s', job.deaths, job.task)
            _finish(job, error=Refusal(422, 'this cannot be processed: it ended the process that tried, twice'))
            return
        with self._changed:
            if not self._stopping:
                self._jobs.appendleft(job)
                self._changed.notify()
                return
        _finish(job, error=Refusal(503, 'the server is stopping'))

    def _restart(self, seat: '_Seat') -> None:
        """Start a worker again, with growing pauses while it cannot be."""
        pause = 1.0
        while not self._stopping:
            LOGGER.warning('a worker ended; starting another')
            with self._changed:
                self.restarts += 1
            seat.end()
            try:
                seat.launch()
                seat.await_ready()
                return
            except (UserError, OSError) as error:
                LOGGER.error('a worker does not start: %s', error)
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, pause)
            pause = min(2 * pause, _MAX_PAUSE_S)


class _Seat:
    """A place for one worker: its process and the pipe to it."""

    def __init__(self, arguments: tuple):
        self.arguments = arguments  # of `worker_main`, after the pipe
        self.context = multiprocessing.get_context('spawn')
        self.process: Any = None
        self.pipe: Any = None
        self.ready = False

    def launch(self) -> None:
        """Start the process."""
        self.pipe, theirs = self.context.Pipe()
        arguments = (theirs, *self.arguments)
        self.process = self.context.Process(target=worker_main, args=arguments, daemon=True, name='evg worker')
        self.process.start()
        theirs.close()  # so that its end of the pipe closes with the process

    def await_ready(self) -> dict[str, Any]:
        """Wait for the worker's first word; returns what it says about its predictor."""
        try:
            if not self.pipe.poll(_START_S):
                raise UserError(f'a worker was not ready within {_START_S:g} s')
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            raise UserError('a worker ended while it was starting; its message stands above') from None
        if kind != READY:
            raise UserError(value)
        self.ready = True
        return value

    def lives(self) -> bool:
        """Whether the worker waits for a job. It never speaks unasked: what can be read is the end."""
        try:
            alive = self.process.is_alive() and not self.pipe.poll()
        except OSError:
            alive = False
        self.ready = self.ready and alive
        return self.ready

    def ask(self, job: _Job, limit_s: float) -> tuple[str, Any]:
        """Hand over a job and wait for the answer (kind, value)."""
        self.pipe.send((job.task, job.arguments))
        if not self.pipe.poll(limit_s):
            raise TimeoutError
        return self.pipe.recv()

    def end(self, patience_s: float = _STOP_S) -> None:
        """End the process: it leaves when its pipe closes, or is killed after a while."""
        self.ready = False
        if self.process is None:
            return
        self.pipe.close()
        self.process.join(patience_s)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _error_of(kind: str, value: Any) -> Exception | None:
    if kind == OK:
        return None
    if kind == REFUSED:
        return Refusal(*value)
    LOGGER.error('a worker failed:\n%s', value)
    return RuntimeError('a worker failed; its message stands in the log')


def _finish(job: _Job, value: Any = None, error: Exception | None = None) -> None:
    if not job.future.done():
        job.future.set_exception(error) if error else job.future.set_result(value)
