from .caption_accuracy import CaptionAccuracy
from .star_accuracy import StarAccuracy

__all__ = ["CaptionAccuracy", "StarAccuracy"]
