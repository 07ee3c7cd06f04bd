"""What is added to mmengine's runner."""

from .early_stop import EarlyStopByDelta
from .hooks import EpochSeedHook, PlainCheckpointHook

__all__ = ['EarlyStopByDelta', 'EpochSeedHook', 'PlainCheckpointHook']
