"""A small training on pictures that are mirrored and captions that are dropped, some rows of which are bad."""

import json
import shutil
from pathlib import Path

import runs
import tiny

COLOURS = ("red", "green", "blue", "yellow")
CONFIG = """
_base_ = ["{root}/configs/_base_/models/{model}.py", "{root}/configs/_base_/schedules/shapes_100.py",
          "{root}/configs/_base_/shapes_runtime.py"]
model = dict(
    teacher=dict(checkpoint="{teacher}"), losses=dict(feature=None), feature_pairs=None,
    sampling=dict(num_inference_steps=1))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="CaptionedImages", source="{data}", max_skipped=0.3,
        pipeline=[dict(type="ResizeCrop", size=32), dict(type="RandomFlip"), dict(type="CaptionDropout", p=0.3),
                  dict(type="PackInputs")]))
train_cfg = dict(max_iters=20, val_interval=1000)
val_cfg = val_dataloader = val_evaluator = None
log_processor = dict(window_size=1)
default_hooks = dict(
    logger=dict(interval=1), samples=dict(prompts=None), checkpoint=dict(interval=1000), baseline=None, report=None)
"""


def write_data(folder: Path) -> Path:
    """Write a table of 14 pictures with one to three captions; one file is cut short, and one row has no caption."""
    tiny.write_captioned_folder(folder)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    for number in (12, 13):
        files.append(shutil.copy(files[number - 12], folder / f"{number}.png"))
    files[3].write_bytes(files[3].read_bytes()[:60])
    rows = []
    for number, file in enumerate(files):
        captions = [f"a {COLOURS[(number + more) % 4]} circle" for more in range(1 + number % 3)]
        rows.append(dict(image=Path(file).name, text=[] if number == 7 else captions))
    table = folder / "table.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    return table


def write_config(file: Path, teacher: Path, data: Path, model: str = "sdxl_shapes", more: str = "") -> Path:
    """Write the config of such a training of `model`, one of configs/_base_/models, with the lines `more` at its end."""
    file.write_text(CONFIG.format(root=runs.ROOT, model=model, teacher=teacher, data=data) + more)
    return file


def make(config: Path | str, out: Path, *args, **changes) -> runs.Ended:
    """Make the cache of `config` in `out` by the tool."""
    ended = runs.tool("cache", config, out, *args, *(runs.options(**changes) if changes else []))
    assert ended.code == 0, ended
    return ended


def losses(work_dir: Path) -> list[dict]:
    """What a run has logged of every step: its losses."""
    (file,) = work_dir.rglob("scalars.json")
    lines = map(json.loads, file.read_text().splitlines())
    return [{name: line[name] for name in line if name.startswith("loss")} for line in lines if "loss" in line]


def largest_difference(ours: Path, theirs: Path) -> float:
    """The largest difference of any loss in any step of two runs."""
    ours, theirs = losses(ours), losses(theirs)
    assert len(ours) == len(theirs) > 0
    return max(abs(one[name] - other[name]) for one, other in zip(ours, theirs, strict=True) for name in one)


def content(cache: Path) -> dict[str, bytes]:
    """All files of a cache, but for the one that says where the encoders' files were."""
    files = [path for path in cache.rglob("*") if path.is_file() and path.name != "index.json"]
    return {str(path.relative_to(cache)): path.read_bytes() for path in sorted(files)}
