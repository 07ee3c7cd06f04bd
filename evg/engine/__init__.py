"""What is added to mmengine's runner."""

from .early_stop import EarlyStopByDelta
from .hooks import DescribeRunHook, EpochSeedHook, PlainCheckpointHook

__all__ = ['DescribeRunHook', 'EarlyStopByDelta', 'EpochSeedHook', 'PlainCheckpointHook']
