"""What happens around training: exact resume, guards, sample grids, baselines, the export to diffusers, and the report."""

from diffdistill.hooks.baseline import BaselineHook
from diffdistill.hooks.buckets import BucketsHook
from diffdistill.hooks.checkpoint import SafeCheckpointHook
from diffdistill.hooks.ema import EMAHook
from diffdistill.hooks.evaluation import EvaluationHook
from diffdistill.hooks.export import ExportHook
from diffdistill.hooks.guard import GuardHook
from diffdistill.hooks.memory import MemoryHook
from diffdistill.hooks.report import ReportHook
from diffdistill.hooks.resume import ResumeHook
from diffdistill.hooks.samples import SampleHook
from diffdistill.hooks.skipped import SkippedHook
from diffdistill.hooks.stage import StageHook
from diffdistill.hooks.stop import StopHook
from diffdistill.hooks.target import TargetEMAHook

__all__ = [
    "BaselineHook",
    "BucketsHook",
    "EMAHook",
    "EvaluationHook",
    "ExportHook",
    "GuardHook",
    "MemoryHook",
    "ReportHook",
    "ResumeHook",
    "SafeCheckpointHook",
    "SampleHook",
    "SkippedHook",
    "StageHook",
    "StopHook",
    "TargetEMAHook",
]
