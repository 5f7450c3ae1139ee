from .caption_accuracy import CaptionAccuracy

__all__ = ["CaptionAccuracy"]
