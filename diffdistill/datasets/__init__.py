"""Data sets of captioned pictures, and what is done to each picture."""

from .captioned import CaptionedImages
from .shapes import ShapesCaptions, ShapesDataset
from .transforms import CaptionDropout, PackInputs, RandomFlip, ResizeCrop

__all__ = ["CaptionDropout", "CaptionedImages", "PackInputs", "RandomFlip", "ResizeCrop", "ShapesCaptions", "ShapesDataset"]
