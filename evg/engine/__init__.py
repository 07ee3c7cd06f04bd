"""What is added to mmengine's runner."""

from .early_stop import EarlyStopByDelta
from .hooks import DescribeRunHook, EpochSeedHook, PlainCheckpointHook
from .leak_guard import LeakGuardHook

__all__ = ['DescribeRunHook', 'EarlyStopByDelta', 'EpochSeedHook', 'LeakGuardHook', 'PlainCheckpointHook']
