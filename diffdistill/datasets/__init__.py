"""Data sets of captioned pictures, and what is done to each picture."""

from .batches import AspectBatchSampler
from .buckets import BucketCrop
from .cached import CachedDataset
from .captioned import CaptionedImages
from .dreambooth import DreamBoothDataset
from .shapes import ShapesCaptions, ShapesDataset, StarCaptions
from .streams import CaptionStream
from .transforms import CaptionDropout, PackInputs, RandomFlip, ResizeCrop
from .validation import CaptionList

__all__ = [
    "AspectBatchSampler",
    "BucketCrop",
    "CachedDataset",
    "CaptionDropout",
    "CaptionList",
    "CaptionStream",
    "CaptionedImages",
    "DreamBoothDataset",
    "PackInputs",
    "RandomFlip",
    "ResizeCrop",
    "ShapesCaptions",
    "ShapesDataset",
    "StarCaptions",
]
