"""Data sets of captioned pictures, and what is done to each picture."""

from .captioned import CaptionedImages
from .captions import CaptionList
from .shapes import ShapesCaptions, ShapesDataset
from .transforms import CaptionDropout, PackInputs, RandomFlip, ResizeCrop

__all__ = [
    "CaptionDropout",
    "CaptionList",
    "CaptionedImages",
    "PackInputs",
    "RandomFlip",
    "ResizeCrop",
    "ShapesCaptions",
    "ShapesDataset",
]
