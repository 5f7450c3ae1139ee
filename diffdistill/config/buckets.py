"""Whether the pictures of a batch will be of one size."""

from mmengine.config import Config
from torch.utils.data import DataLoader

from diffdistill.datasets.batches import AspectBatchSampler
from diffdistill.datasets.transforms import Crop
from diffdistill.errors import InputError
from diffdistill.families.reading import check_resolution
from diffdistill.models.plan import Plan


def check_buckets(config: Config, dataset, loader: DataLoader, plan: Plan | None) -> None:
    """Raise InputError for pictures of several sizes that would meet in a batch, or of a size that the family does not take.

    Nor may a batch of a small bucket have fewer samples than the method needs.
    """
    sizes = next((crop.sizes for crop in reversed(getattr(dataset, "pipeline", ())) if isinstance(crop, Crop)), [])
    batches, by_bucket = loader.batch_sampler, isinstance(loader.batch_sampler, AspectBatchSampler)
    pairs = getattr(dataset, "class_pictures", None) is not None
    if len(sizes) > 1 and not by_bucket and (pairs or batches.batch_size > 1):
        raise InputError(
            f"train_dataloader.dataset.pipeline crops to {len(sizes)} sizes, and a batch is of one: add"
            " train_dataloader.batch_sampler=dict(type='AspectBatchSampler')" + "; pairs need ResizeCrop" * pairs
        )
    for size in sizes if plan else ():
        check_resolution(plan.family, *size, "train_dataloader.dataset.pipeline")
    if by_bucket and plan and batches.smallest < plan.method.smallest_batch:
        raise InputError(
            f"train_dataloader.batch_sampler: the smallest aspect bucket gives batches of {batches.smallest}, and"
            f" {type(plan.method).__name__} needs {plan.method.smallest_batch}; make fewer buckets by a larger step or a"
            " smaller max_aspect of BucketCrop"
        )
