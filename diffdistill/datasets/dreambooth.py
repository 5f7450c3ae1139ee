"""DreamBooth (Ruiz et al., 2022, arXiv:2208.12242): a handful of pictures of one subject, and a prompt that names it."""

from collections.abc import Mapping
from pathlib import Path

import datasets
from torch.utils.data import Dataset

from diffdistill.errors import InputError, shortened
from diffdistill.registry import DATASETS, TRANSFORMS

from .captioned import CaptionedImages
from .class_pictures import ClassPictures
from .pictures import picture_files, picture_of, problem_of, read_picture, reason_of
from .skipping import BadSampleError, lines_of, warn_of_left_out
from .sources import local_path, open_source, picture_folder


@DATASETS.register_module()
class DreamBoothDataset(Dataset):
    """Instance pictures, and with `class_images` as many class pictures beside them (prior preservation, sec. 3.2).

    Without class pictures, an item is `dict(image, caption)` passed through `pipeline`. With them, **an item is a pair**: a
    list of an instance and a class item. A batch is flat, and holds as many of one kind as of the other; `batch_size` counts
    pairs. Each has a `weight`, 2 and 2 lambda, with which the mean over a batch is L_instance + lambda L_class (eq. 2). The
    length is that of the longer of both lists, over which the shorter one repeats.

    Args:
        source: a folder of pictures, none of which needs a caption (folders in it are not looked into); or any source of
            `CaptionedImages`, e.g. "diffusers/dog-example" on the Hugging Face Hub.
        prompt: the caption of every instance picture: a rare word and the class, e.g. "a photo of sks dog". None: each has a
            caption of its own in `source`, which must then be one of `CaptionedImages`.
        class_images: arguments of `ClassPictures`.
        pipeline: configs of the transforms, in order.
        split, image_column: of a source that is no folder of pictures.

    Raises:
        InputError: there is no instance picture that can be read, or the prompt is empty. Of several, those that cannot be
            used are named in a warning and left out; `left_out` has a JSON line for each.
    """

    def __init__(
        self,
        source: str,
        prompt: str | None,
        class_images: Mapping | None = None,
        pipeline: list[dict] = (),
        split: str = "train",
        image_column: str = "image",
    ):
        if prompt is not None and not str(prompt).strip():
            raise InputError(f"DreamBoothDataset: prompt={prompt!r} names no subject; write e.g. 'a photo of sks dog'")
        self.pipeline = [TRANSFORMS.build(transform) for transform in pipeline]
        self.source = str(source)
        self.instances, bad = instances(self.source, prompt, split, image_column)
        self.left_out = lines_of(bad)
        self.class_pictures = ClassPictures(**class_images) if class_images else None
        self.instance(0)

    def __len__(self) -> int:
        return max(len(self.instances), self.class_pictures.count if self.class_pictures else 0)

    def __getitem__(self, index: int) -> dict | list[dict]:
        if not 0 <= index < len(self):
            raise IndexError(f"DreamBoothDataset: index {index} is not in [0, {len(self)})")
        instance = self.instance(index % len(self.instances))
        if self.class_pictures is None:
            return instance
        if self.class_pictures.missing():
            raise InputError(
                f"class_images.folder={self.class_pictures.folder} has {len(self.class_pictures.files)} pictures of"
                f" class_images.count={self.class_pictures.count}; a training generates the others first"
            )
        return [instance, self.transform(self.class_pictures[index % self.class_pictures.count])]

    def __getitems__(self, indices: list[int]) -> list[dict]:
        """What a DataLoader asks for: the items at `indices`, pairs taken apart."""
        items = [self[index] for index in indices]
        return items if self.class_pictures is None else [item for pair in items for item in pair]

    def instance(self, index: int) -> dict:
        """The item of one instance picture; its `weight` is 2 where class pictures stand beside it, else it has none."""
        picture, caption = self.instances[index]
        name = f"instance {index}" + (f" ({shortened(picture.name)})" if isinstance(picture, Path) else "")
        try:
            item = {"image": read_picture(picture), "caption": caption, "sample": name}
        except Exception as error:  # it could be read before: its file or disk has gone
            raise InputError(f"{self.source}: {name}: {reason_of(error)}") from error
        return self.transform(item | {"weight": 2.0} if self.class_pictures else item)

    def transform(self, item: dict) -> dict:
        """`item` passed through every transform of `pipeline`."""
        for transform in self.pipeline:
            item = transform(item)
        return item


def instances(
    source: str, prompt: str | None, split: str, image_column: str
) -> tuple[list[tuple[bytes | Path, str]], list[BadSampleError]]:
    """The pictures of `source`, in the form that `read_picture` takes, with captions; and those that cannot be used."""
    if prompt is None:
        table = CaptionedImages(source, split, image_column, max_skipped=1)
        values, folder = list(table.rows[image_column]), table.folder
        problems = [table.problem(row) for row in range(len(values))]
        written = zip(table.rows[table.caption_column], problems, strict=True)
        captions = ["" if problem else table.one_caption(caption) for caption, problem in written]
    else:
        values, folder = instance_pictures(source, split, image_column), picture_folder(source)
        problems = [problem_of(source, row, value, folder) for row, value in enumerate(values)]
        captions = [prompt] * len(values)
    warn_of_left_out(source, len(values), problems)
    found = zip(values, captions, problems, strict=True)
    kept = [(picture_of(value, folder), caption) for value, caption, problem in found if problem is None]
    return kept, [problem for problem in problems if problem is not None]


def instance_pictures(source: str, split: str, image_column: str) -> list:
    """All pictures of `source`, in the form that `read_picture` takes."""
    folder = local_path(source)
    if folder.is_dir() and (files := picture_files(folder)):
        return files
    if folder.is_dir() and not any(folder.rglob("*.parquet")) and not any(folder.rglob("*.arrow")):
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and picture_files(path))
        advice = f"; name one of the folders in it: {', '.join(inside)}" if inside else ""
        raise InputError(f"{source}: there is no picture in the folder{advice or '; put those of the subject there'}")
    rows = open_source(source, split)
    if image_column not in rows.column_names:
        raise InputError(
            f"{source}: there is no column {image_column!r}; set image_column to one of {', '.join(rows.column_names)}"
        )
    if isinstance(rows.features[image_column], datasets.Image):
        rows = rows.cast_column(image_column, datasets.Image(decode=False))
    return list(rows[image_column])
