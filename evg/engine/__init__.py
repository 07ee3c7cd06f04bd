"""What is added to mmengine's runner."""

from .early_stop import EarlyStopByDelta
from .faults import StopAtBadLossHook
from .hooks import DescribeRunHook, EpochSeedHook, PlainCheckpointHook
from .leak_guard import LeakGuardHook
from .loop import ResumableLoop

__all__ = [
    'DescribeRunHook', 'EarlyStopByDelta', 'EpochSeedHook', 'LeakGuardHook', 'PlainCheckpointHook', 'ResumableLoop',
    'StopAtBadLossHook',
]  # fmt: skip
