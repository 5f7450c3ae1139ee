"""Pictures of the class that a DreamBooth subject belongs to, which the pipeline itself makes before it is tuned."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from diffdistill.errors import InputError, shortened
from diffdistill.files import remove, removed_after_errors, sync

from .pictures import picture_files, problem_of, read_picture, reason_of
from .skipping import warn_of_left_out


class ClassPictures:
    """A folder of `count` class pictures, of which those that are missing are still to be generated.

    A generated picture is `class_<index>.png`, made from the initial noise of seed <index> and the prompt of that index,
    which it carries as a PNG text. So each one is the same whenever it is made, and a generation that was stopped goes on
    where it stopped. Pictures of other names, photographs for instance, count too, and go by the first prompt.

    Args:
        prompt: what they show, e.g. "a photo of a dog"; or several prompts, taken in turn.
        folder: where they are kept. None: a folder under work_dirs, which runs of the same pipeline and prompt share.
        count: how many are wanted.
        weight: lambda of Ruiz et al., eq. 2: how much the mean over class pictures counts beside that over instances.
        batch_size: pictures that are generated at once. Another one changes their last digits.
        generate: False: fewer than `count` in the folder are an error.

    Raises:
        InputError: the folder has pictures of another prompt, or too few and none may be made.
    """

    def __init__(
        self,
        prompt: str | Sequence[str],
        folder: str | None = None,
        count: int = 200,
        weight: float = 1.0,
        batch_size: int = 4,
        generate: bool = True,
    ):
        self.prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not self.prompts or not all(isinstance(prompt, str) and prompt.strip() for prompt in self.prompts):
            raise InputError(
                f"class_images.prompt={prompt!r} names no class; write what the pictures show, e.g. 'a photo of a dog'"
            )
        for name, value in (("count", count), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"class_images.{name}={value} must be at least 1")
        if weight < 0:
            raise InputError(f"class_images.weight={weight} must be at least 0")
        self.folder = None if folder is None else Path(folder).expanduser()
        self.count, self.weight, self.batch_size, self.generate = count, weight, batch_size, generate
        self.files: list[tuple[Path, str]] = []
        self.look()
        if not generate and len(self.files) < count:
            raise InputError(
                f"class_images.folder={folder} has {len(self.files)} pictures of class_images.count={count}, and"
                " class_images.generate=False; add pictures, lower the count, or let the missing ones be generated"
            )

    def look(self) -> None:
        """Set `files` to what the folder holds: at most `count` usable pictures, each with its prompt."""
        if self.folder is None or not self.folder.is_dir():
            return
        found = picture_files(self.folder)
        own = {self.path(index): self.prompt(index) for index in range(self.count)}
        made = [(path, own[path]) for path in found if path in own and self.is_whole(path, own[path])]
        others = [path for path in found if not path.name.startswith("class_")]
        if others:
            others = self.readable(others)
        self.files = [*((path, self.prompts[0]) for path in others), *made][: self.count]

    def readable(self, files: list[Path]) -> list[Path]:
        """Those of `files` that are pictures, with a warning of the others. Raises InputError where none is one."""
        source = f"class_images.folder={self.folder}"
        problems = [problem_of(source, number, path, self.folder) for number, path in enumerate(files)]
        warn_of_left_out(source, len(files), problems)
        return [path for path, problem in zip(files, problems, strict=True) if problem is None]

    def is_whole(self, path: Path, expected: str) -> bool:
        """Whether a generated picture is undamaged. Raises InputError if it was made from another prompt."""
        try:
            with Image.open(path) as picture:
                prompt = picture.info.get("prompt")
                picture.verify()
        except Exception:  # whatever is broken is made again
            return False
        if prompt != expected:
            raise InputError(
                f"class_images.folder={self.folder} holds pictures of {shortened(repr(prompt))} ({path.name}), and"
                f" class_images.prompt asks for {shortened(repr(expected))}; choose another folder, or delete this one"
            )
        return True

    def __getitem__(self, index: int) -> dict:
        path, prompt = self.files[index]
        try:
            picture = read_picture(path)
        except Exception as error:  # it could be read before: its file or disk has gone
            raise InputError(f"class_images.folder={self.folder}: {path.name}: {reason_of(error)}") from error
        return {"image": picture, "caption": prompt, "weight": 2 * self.weight, "sample": f"class picture {path.name}"}

    def path(self, index: int) -> Path:
        """The file of the generated picture `index`, whether it is there or not."""
        return self.folder / f"class_{index:05d}.png"

    def prompt(self, index: int) -> str:
        """The prompt of the generated picture `index`: the prompts are taken in turn."""
        return self.prompts[index % len(self.prompts)]

    def missing(self) -> list[int]:
        """Indices of the pictures that are still to be generated."""
        here = {path for path, _ in self.files}
        lacking = self.count - len(here)
        return [index for index in range(self.count) if self.folder is None or self.path(index) not in here][:lacking]

    def save(self, index: int, picture: np.ndarray) -> None:
        """Keep a generated picture (H, W, 3), uint8; a file is whole or not there."""
        text = PngInfo()
        text.add_text("prompt", self.prompt(index))
        partial = self.path(index).with_suffix(f".{os.getpid()}.partial")  # another run may be at the same picture
        self.folder.mkdir(parents=True, exist_ok=True)
        with removed_after_errors(partial, self.path(index)):
            Image.fromarray(picture).save(partial, format="PNG", pnginfo=text)
            sync(partial)
        partial.replace(self.path(index))

    def clear(self) -> None:
        """Remove what generations that were killed have left half-written; a picture takes no minute to write."""
        for partial in self.folder.glob("class_*.partial"):
            if time.time() - partial.stat().st_mtime > 60:
                remove(partial)


def missing_class_pictures(dataset) -> list[int]:
    """Indices of the class pictures that a training set still lacks; an empty list where it wants none."""
    pictures = getattr(dataset, "class_pictures", None)
    return pictures.missing() if pictures else []
