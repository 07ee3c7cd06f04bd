"""What is added to mmengine's runner."""

from .checkpoint import SaveFirstCheckpointHook
from .early_stop import EarlyStopByDelta
from .faults import StopAtBadLossHook
from .hooks import DescribeRunHook, EpochSeedHook, PlainCheckpointHook
from .leak_guard import LeakGuardHook
from .loop import ResumableLoop
from .observe import ShowPredictionsHook, ThroughputLoggerHook
from .speed import BFloat16OptimWrapper
from .summary import SummaryHook

__all__ = [
    'BFloat16OptimWrapper', 'DescribeRunHook', 'EarlyStopByDelta', 'EpochSeedHook', 'LeakGuardHook',
    'PlainCheckpointHook', 'ResumableLoop', 'SaveFirstCheckpointHook', 'ShowPredictionsHook', 'StopAtBadLossHook',
    'SummaryHook', 'ThroughputLoggerHook',
]  # fmt: skip
