"""Data sets of captioned pictures, and what is done to each picture."""

from .cached import CachedDataset
from .captioned import CaptionedImages
from .dreambooth import DreamBoothDataset
from .shapes import ShapesCaptions, ShapesDataset, StarCaptions
from .transforms import CaptionDropout, PackInputs, RandomFlip, ResizeCrop
from .validation import CaptionList

__all__ = [
    "CachedDataset",
    "CaptionDropout",
    "CaptionList",
    "CaptionedImages",
    "DreamBoothDataset",
    "PackInputs",
    "RandomFlip",
    "ResizeCrop",
    "ShapesCaptions",
    "ShapesDataset",
    "StarCaptions",
]
