"""Writing samples: each picture and a grid of all, over nothing but earlier samples."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffdistill.config.folders import check_no_model
from diffdistill.errors import InputError
from diffdistill.files import check_folder, write_file_whole
from diffdistill.sampling.grid import picture_grid
from diffdistill.sampling.samplers import Row

MARK = ("Software", "diffdistill sample")  # a text of every PNG


def check_out(folder: str, sources: Sequence[str]) -> None:
    """Raise InputError unless samples of `sources` can be written to `folder` without harm to anything there.

    It must be no pipeline or model, nor lie in one of `sources`, and every picture with a name like theirs must be a sample.
    """
    check_folder(folder, "--out")
    check_no_model(folder, "--out")
    out = Path(folder).resolve()
    for source in sources:
        if Path(source).is_dir() and (out == Path(source).resolve() or Path(source).resolve() in out.parents):
            raise InputError(f"--out={folder} lies in {source}, of which samples are drawn; choose another folder")
    for file in (*out.glob("grid.png"), *out.glob("*_[0-9]*.png")):
        if not is_sample(file):
            raise InputError(
                f"--out={folder}: {file.name} there is no sample, and might be written over; choose another folder"
            )


def is_sample(file: Path) -> bool:
    """Whether `save_samples` has written `file`."""
    try:
        with Image.open(file) as picture:
            return picture.info.get(MARK[0]) == MARK[1]
    except Exception:  # the decoders of broken files raise nearly anything
        return False


def save_samples(rows: Sequence[Row], prompts: Sequence[str], folder: str) -> Path:
    """Write every picture as `<row>_<column>.png` and all of them as `grid.png`; returns the grid's path."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        for column, picture in enumerate(row.pictures):
            save_picture(Image.fromarray(picture), out / f"{row.name}_{column}.png")
    grid = picture_grid([row.pictures for row in rows], [row.label for row in rows], list(prompts))
    return save_picture(grid, out / "grid.png")


def save_picture(picture: Image.Image, file: Path) -> Path:
    """Write `picture` as PNG, whole or not at all, marked as a sample; returns the file."""
    text = PngInfo()
    text.add_text(*MARK)
    return write_file_whole(lambda partial: picture.save(partial, format="PNG", pnginfo=text), file)
