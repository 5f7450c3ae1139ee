from .caption_accuracy import CaptionAccuracy
from .distribution import FID, KID, InceptionScore

__all__ = ["FID", "KID", "CaptionAccuracy", "InceptionScore"]
