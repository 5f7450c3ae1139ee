"""What is measured on pictures that students (and teachers) make of the captions of a validation or test."""

from .agreement import TeacherAgreement
from .caption_accuracy import CaptionAccuracy
from .clip_score import CLIPScore, PreferenceScore
from .distribution import FID, KID, InceptionScore
from .seeds import PositionEntropy, SeedSpread
from .star_accuracy import StarAccuracy

__all__ = [
    "FID",
    "KID",
    "CLIPScore",
    "CaptionAccuracy",
    "InceptionScore",
    "PositionEntropy",
    "PreferenceScore",
    "SeedSpread",
    "StarAccuracy",
    "TeacherAgreement",
]
