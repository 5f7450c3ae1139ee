"""Prior preservation: class pictures are made once, by the untuned pipeline, and used again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ROOT, shapes, tool, two_ranks
from torch.utils.data import DataLoader

from diffdistill.config.read import load_config
from diffdistill.datasets import DreamBoothDataset
from diffdistill.errors import InputError
from diffdistill.models.distiller import Distiller
from diffdistill.registry import DATASETS, MODELS
from diffdistill.runs.prior_pictures import make_class_pictures, name_class_folder

CONFIG = """
_base_ = ["{root}/configs/shapes/small_sd_xl_shapes_task_only.py"]
model = dict(student=dict(keep=dict(_delete_=True)))
train_dataloader = dict(batch_size=2, dataset=dict(
    _delete_=True, type="DreamBoothDataset", source="diffdistill::star_pictures", prompt="a large s",
    class_images=dict(prompt=["a red circle", "a blue square"], count=3, batch_size=2),
    pipeline=[dict(type="ResizeCrop", size=32), dict(type="PackInputs")]))
"""


@pytest.fixture
def config(tmp_path, shallow_sdxl):
    """The file of a small DreamBooth run, and the options that make it tiny."""
    path = tmp_path / "stars.py"
    path.write_text(CONFIG.format(root=ROOT))
    options = shapes(shallow_sdxl)
    return path, {key.replace("__", "."): value for key, value in options.items()}


def load(config, tmp_path, **options):
    path, changes = config
    changes = changes | {key.replace("__", "."): value for key, value in options.items()}
    loaded = load_config(str(path), changes, str(tmp_path / "run"))
    loaded.launcher = "none"
    name_class_folder(loaded)
    return loaded, Path(loaded.train_dataloader.dataset.class_images.folder)


def test_the_untuned_pipeline_draws_them(config, tmp_path):
    loaded, folder = load(config, tmp_path)
    make_class_pictures(loaded, lambda: MODELS.build(loaded.model))
    model = Distiller(**{key: value for key, value in loaded.model.to_dict().items() if key != "type"})
    expected = model.sample(["a red circle", "a blue square", "a red circle"], [0, 1, 2])
    for path, picture in zip(sorted(folder.iterdir()), expected, strict=True):
        assert np.abs(np.asarray(Image.open(path), dtype=int) - picture).max() <= 1  # another batch, another rounding
    data = DreamBoothDataset(**{k: v for k, v in loaded.train_dataloader.dataset.items() if k != "type"})
    assert [data[i][1]["caption"] for i in range(3)] == ["a red circle", "a blue square", "a red circle"]


def test_only_what_is_missing_is_drawn_and_a_whole_set_loads_no_model(config, tmp_path, monkeypatch):
    loaded, folder = load(config, tmp_path)
    make_class_pictures(loaded, lambda: MODELS.build(loaded.model))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "class_00001.png").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    make_class_pictures(loaded, lambda: MODELS.build(loaded.model))
    assert {name: (folder / name).stat().st_mtime_ns for name in times} == times
    assert {path.name for path in folder.iterdir()} == before.keys()
    loaded.model = None  # cannot be built
    make_class_pictures(loaded, lambda: MODELS.build(loaded.model))


def test_a_picture_depends_on_its_number_alone(config, tmp_path, monkeypatch):
    """Whichever were made before, by a generation that was killed or for another count, the others come to the bit.

    What a picture is drawn with changes its last digits: on a larger model, of which this one shows nothing, by a level.
    """
    whole, folder = load(config, tmp_path, train_dataloader__dataset__class_images__count=5)
    drawn_with, sample = {}, Distiller.sample

    def noted(model, prompts, seeds):
        for seed in seeds:
            drawn_with.setdefault(seed, set()).add(tuple(seeds))
        return sample(model, prompts, seeds)

    monkeypatch.setattr(Distiller, "sample", noted)
    make_class_pictures(whole, lambda: MODELS.build(whole.model))
    unbroken = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(unbroken) == 5
    for left in ([0], [1, 2]):
        for index in set(range(5)) - set(left):
            (folder / f"class_{index:05d}.png").unlink()
        make_class_pictures(whole, lambda: MODELS.build(whole.model))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == unbroken, left
    shutil.rmtree(folder)
    for count in (1, 5):
        part, same = load(config, tmp_path, train_dataloader__dataset__class_images__count=count)
        make_class_pictures(part, lambda part=part: MODELS.build(part.model))
        assert same == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == unbroken
    assert {seed: batches for seed, batches in drawn_with.items() if len(batches) > 1} == {}


def test_what_a_killed_generation_left_half_written_is_cleared(config, tmp_path):
    loaded, folder = load(config, tmp_path)
    folder.mkdir(parents=True)
    old, new = folder / "class_00000.1.partial", folder / "class_00001.2.partial"
    for partial in (old, new):  # the newer one may be of a run that is at it
        partial.write_bytes(b"")
    os.utime(old, (0, 0))
    make_class_pictures(loaded, lambda: MODELS.build(loaded.model))
    assert {path.name for path in folder.iterdir()} == {new.name, *(f"class_{index:05d}.png" for index in range(3))}


def test_runs_share_a_folder_unless_their_pictures_would_differ(config, tmp_path):
    _, folder = load(config, tmp_path)
    assert folder.parent == tmp_path / "class_pictures"
    assert folder.name.startswith("a_red_circle_")
    same = dict(train_cfg__max_iters=7, train_dataloader__dataset__class_images__count=9, model__losses__task__weight=2)
    assert load(config, tmp_path, **same)[1] == folder
    for key, value in (
        ("model__sampling__num_inference_steps", 2),
        ("model__teacher__checkpoint", "diffdistill::sdxl_shapes"),
        ("train_dataloader__dataset__class_images__prompt", "a red circle"),
    ):
        assert load(config, tmp_path, **{key: value})[1] != folder
    named = load(config, tmp_path, train_dataloader__dataset__class_images__folder=str(tmp_path / "mine"))[1]
    assert named == tmp_path / "mine"


def options_of(changes: dict) -> list[str]:
    return ["--cfg-options", *(f"{key}={value}" for key, value in changes.items())]


def test_a_run_makes_them_first_and_trains_the_same_with_those_of_an_earlier_one(config, tmp_path):
    path, changes = config
    changes |= {"default_hooks.baseline": None, "default_hooks.samples": None, "default_hooks.export": None}
    for run in ("first", "second"):
        ended = tool("train", path, "--work-dir", tmp_path / run, *options_of(changes))
        assert ended.code == 0, ended
        assert ("class pictures" in ended.err) == (run == "first")
    assert len(list((tmp_path / "class_pictures").glob("*/class_*.png"))) == 3
    one, other = (torch.load(tmp_path / run / "iter_2.pth", weights_only=True)["state_dict"] for run in ("first", "second"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=0)


TWO_RANKS = """
import sys, torch
from diffdistill.config.read import load_config
from diffdistill.datasets.class_pictures import missing_class_pictures
from diffdistill.registry import DATASETS, MODELS
from diffdistill.runs import prior_pictures
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
config = load_config(sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2])), sys.argv[1] + "_run")
config.launcher = "pytorch"
prior_pictures.name_class_folder(config)
drawn = []
generate = prior_pictures.generate
prior_pictures.generate = lambda model, pictures, missing: (drawn.extend(missing), generate(model, pictures, missing))
prior_pictures.make_class_pictures(config, lambda: MODELS.build(config.model))
missing = missing_class_pictures(DATASETS.build(config.train_dataloader.dataset))
print(torch.distributed.get_rank(), drawn, missing)
"""


@pytest.mark.processes
def test_of_two_ranks_one_draws_and_the_other_waits(config, tmp_path):
    path, changes = config
    script = tmp_path / "ranks.py"
    script.write_text(TWO_RANKS)
    options = [str(text) for key in ("model.teacher.checkpoint",) for text in (key, changes[key])]
    ended = two_ranks([str(script), str(path), *options])
    assert [rank.out.strip() for rank in ended] == ["0 [0, 1, 2] []", "1 [] []"]


def test_the_weights_reach_the_losses(config, tmp_path):
    loaded, _ = load(config, tmp_path, train_dataloader__dataset__class_images__weight=0.25)
    make_class_pictures(loaded, lambda: MODELS.build(loaded.model))
    model = MODELS.build(loaded.model)
    steps = []
    model.losses = {"task": lambda step: steps.append(step) or step.prediction.mean()}
    batch = next(iter(DataLoader(DATASETS.build(loaded.train_dataloader.dataset), batch_size=2)))
    model(**model.data_preprocessor(batch), mode="loss")
    assert steps[0].sample_weights.tolist() == [2.0, 0.5] * 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("class_images.generate", False, "has 0 pictures of class_images.count=3, and class_images.generate=False"),
        ("class_images.cuont", 3, "unexpected keyword argument 'cuont'"),
        ("prompt", "", "prompt='' names no subject"),
        ("source", "diffdistill::stars", "diffdistill::stars: no such file or folder"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(config, tmp_path, key, value, message):
    path, changes = config
    changes |= {f"train_dataloader.dataset.{key}": value}
    ended = tool("train", path, "--work-dir", tmp_path / "run", *options_of(changes))
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "class_pictures").exists()


def test_out_of_memory_names_the_batch_to_lower(config, tmp_path, monkeypatch):
    loaded, _ = load(config, tmp_path)
    monkeypatch.setattr(Distiller, "sample", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(InputError, match=r"class_images.batch_size=2: lower it"):
        make_class_pictures(loaded, lambda: MODELS.build(loaded.model))
