"""Figures for Prometheus."""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client import generate_latest as _text
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from evg.serve.calibrations import Calibrations
from evg.serve.workers import WorkerPool

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The counters of one server.

    Args:
        pool: its workers.
        calibrations: its calibrations.
    """

    def __init__(self, pool: WorkerPool, calibrations: Calibrations):
        self.registry = CollectorRegistry()
        labels = ['route', 'method', 'status']
        self.requests = Counter('evg_requests', 'Answered requests', labels, registry=self.registry)
        self.seconds = Histogram(
            'evg_request_seconds', 'From the first byte of a request to its answer', ['route'],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.streams = Gauge('evg_streams', 'Open streams', registry=self.registry)
        self.frames = Counter('evg_stream_frames', 'Frames of streams that were answered', registry=self.registry)
        self.dropped = Counter('evg_stream_frames_dropped', 'Frames that newer ones replaced', registry=self.registry)
        self.stalled = Counter('evg_streams_stalled', 'Streams closed for taking no answer', registry=self.registry)
        ProcessCollector(registry=self.registry)
        self.registry.register(_State(pool, calibrations))

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return _text(self.registry)


class _State(Collector):
    """Figures that are read when they are asked for."""

    def __init__(self, pool: WorkerPool, calibrations: Calibrations):
        self.pool, self.calibrations = pool, calibrations

    def collect(self) -> Iterator[Metric]:
        """What `CollectorRegistry` calls."""
        yield GaugeMetricFamily('evg_workers', 'Workers that can take a job', self.pool.alive)
        yield CounterMetricFamily('evg_worker_restarts', 'Workers started again', value=self.pool.restarts)
        yield GaugeMetricFamily('evg_waiting', 'Jobs that no worker has taken yet', self.pool.waiting)
        yield GaugeMetricFamily('evg_calibrations', 'Calibrations that are kept', len(self.calibrations))
        memory = sum(resident_bytes(pid) for pid in self.pool.pids)
        yield GaugeMetricFamily('evg_workers_resident_bytes', 'Memory of all workers; 0 where unknown', memory)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the system does not tell."""
    try:
        return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, ValueError, IndexError):
        return 0
