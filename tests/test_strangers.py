"""Nothing of a stranger's runs: a pickle or code at every entrance is refused, and what it would do is not done."""

import contextlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import runs
import torch
from PIL import Image
from runs import assert_one_line, options, shapes, tool
from safetensors.torch import load_file

from diffdistill.config.dumped import read_dumped
from diffdistill.config.read import read_config
from diffdistill.datasets import CaptionedImages
from diffdistill.datasets.class_pictures import ClassPictures
from diffdistill.errors import InputError
from diffdistill.metrics.distribution import FID, InceptionScore
from diffdistill.metrics.encoders import Encoder
from diffdistill.metrics.inception import Inception

CONFIG = "small_sd_xl_shapes"


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def bomb(tmp_path):
    """A bomb; after the test, that it did not go off."""
    found = Bomb(tmp_path / "gone_off")
    yield found
    assert not found.folder.exists(), "what a stranger has pickled was run"


def test_the_bomb_would_go_off(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "gone_off"), file)
    with (tmp_path / "file").open("rb") as file:
        pickle.load(file)
    assert (tmp_path / "gone_off").exists()


@pytest.fixture
def teacher(shallow_sdxl, tmp_path) -> Path:
    return shutil.copytree(shallow_sdxl, tmp_path / "teacher")


def write_state(file: Path, state, form: str) -> None:
    if form == "pickle":
        file.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["whole", "state_dict", "ema_state_dict", "message_hub"])
def test_a_checkpoint(place, form, bomb, shapes_run, thin_sdxl, tmp_path):
    file = tmp_path / "iter_3.pth"
    state = torch.load(shapes_run.work_dir / "iter_3.pth", weights_only=True)
    state = bomb if place == "whole" else {**state, place: bomb}
    write_state(file, state, form)
    given = options(**shapes(thin_sdxl))
    run = ("--work-dir", tmp_path / "run")
    assert_one_line(tool("train", CONFIG, *run, "--resume", file, *given), "iter_3.pth is no checkpoint")
    assert_one_line(tool("train", CONFIG, *run, *given, f"load_from={file}"), "iter_3.pth is no checkpoint")
    assert_one_line(tool("test", CONFIG, "--checkpoint", file, *run, *given), "iter_3.pth is no checkpoint")
    assert_one_line(tool("sample", f"{CONFIG}={file}", "--prompt", "a", "--out", tmp_path / "s", *given), "no checkpoint")
    assert_one_line(tool("export", CONFIG, file, tmp_path / "out", *given), "iter_3.pth is no checkpoint")


PARTS = [
    ("unet", "diffusion_pytorch_model.bin"),
    ("vae", "diffusion_pytorch_model.bin"),
    ("text_encoder", "pytorch_model.bin"),
]


@pytest.mark.parametrize(("part", "name"), PARTS)
def test_weights_of_a_pipeline(part, name, bomb, teacher, tmp_path, monkeypatch):
    (weights,) = (teacher / part).glob("*.safetensors")
    torch.save({**load_file(weights), "bomb": bomb}, teacher / part / name)
    weights.unlink()
    given = options(**shapes(teacher))
    means = (
        f"{name} is a pickle, which can run code when it is read; get it as safetensors, or set DIFFDISTILL_ALLOW_PICKLES=1"
    )
    assert_one_line(tool("train", CONFIG, "--work-dir", tmp_path / "run", *given), f"{teacher}: {part}/", means)
    assert_one_line(tool("make_student", CONFIG, tmp_path / "student", "--from", teacher), means)
    assert_one_line(tool("sample", teacher, "--prompt", "a", "--out", tmp_path / "samples"))
    assert_one_line(tool("benchmark", "inference", teacher, "--rounds", 1))
    monkeypatch.setenv("DIFFDISTILL_ALLOW_PICKLES", "1")  # even then no more than tensors is read
    assert_one_line(tool("train", CONFIG, "--work-dir", tmp_path / "run", *given))


def test_a_pickle_beside_safe_weights_is_not_read(bomb, teacher, tmp_path):
    for part, name in PARTS:
        torch.save(dict(bomb=bomb), teacher / part / name)
    ended = tool("sample", teacher, "--prompt", "a", "--steps", 1, "--out", tmp_path / "samples")
    assert ended.code == 0, ended


def test_a_pretrained_student(bomb, thin_sdxl, tmp_path):
    student = shutil.copytree(thin_sdxl / "unet", tmp_path / "student")
    next(student.glob("*.safetensors")).unlink()
    torch.save(dict(bomb=bomb), student / "diffusion_pytorch_model.bin")
    given = options(**shapes(thin_sdxl, model__student__checkpoint=student))
    assert_one_line(tool("train", CONFIG, "--work-dir", tmp_path / "run", *given), "is a pickle")
    assert_one_line(tool("test", CONFIG, "--checkpoint", student, *options(**shapes(thin_sdxl))), "is a pickle")


@pytest.mark.parametrize("name", ["custom_pipeline", "custom_component", "unknown_library"])
def test_code_beside_a_pipeline(name, teacher, tmp_path):
    """What diffusers runs with `trust_remote_code=True`, and what older versions ran without."""
    code = f"import os\nos.mkdir({str(tmp_path / 'gone_off')!r})\nclass Mine: pass\n"
    file, index = teacher / "model_index.json", json.loads((teacher / "model_index.json").read_text())
    if name == "custom_pipeline":
        index["_class_name"] = ["mine", "Mine"]
        (teacher / "mine.py").write_text(code)
    else:
        index["scheduler"] = ["mine" if name == "custom_component" else "os", "Mine"]
        (teacher / "scheduler" / "mine.py").write_text(code)
    file.write_text(json.dumps(index))
    given = options(**shapes(teacher))
    assert_one_line(tool("train", CONFIG, "--work-dir", tmp_path / "run", *given), "names code of its own")
    assert_one_line(tool("sample", teacher, "--prompt", "a", "--out", tmp_path / "samples"), "names code of its own")
    assert_one_line(tool("benchmark", "inference", teacher))
    assert not (tmp_path / "gone_off").exists()


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt", "lora.safetensors", "pytorch_lora_weights.safetensors"])
def test_a_lora(name, bomb, thin_sdxl, tmp_path, monkeypatch):
    torch.save({"unet.x.lora_A.weight": bomb}, tmp_path / name)
    given = ("transfer_lora", tmp_path / name, CONFIG, tmp_path / "out", *options(model__teacher__checkpoint=thin_sdxl))
    assert_one_line(tool(*given), f"LORA={tmp_path / name}")
    monkeypatch.setenv("DIFFDISTILL_ALLOW_PICKLES", "1")
    assert_one_line(tool(*given), f"LORA={tmp_path / name}")


def test_the_folder_of_an_adapter(bomb, thin_sdxl, tmp_path):
    folder = tmp_path / "step1"
    folder.mkdir()
    for name in ("pytorch_lora_weights.bin", "pytorch_lora_weights.safetensors"):
        torch.save(dict(bomb=bomb), folder / name)
    adapter = dict(model__student__adapter__type="LoraConfig", model__student__adapter__target_modules="[to_q]")
    ended = tool("test", CONFIG, "--checkpoint", folder, *options(**shapes(thin_sdxl, **adapter)))
    assert_one_line(ended, "pytorch_lora_weights.safetensors")


@pytest.fixture
def inception(tmp_path) -> Path:
    torch.save(Inception().state_dict(), tmp_path / "inception.pth")
    return tmp_path / "inception.pth"


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_weights_of_inception(form, bomb, tmp_path):
    write_state(tmp_path / "weights.pth", dict(bomb=bomb), form)
    with pytest.raises(InputError, match=r"is not Inception's of 2015-12-05"):
        InceptionScore(weights=str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("name", ["members.npz", "pickle.npz", "pickle.pkl", "pickle.pt"])
def test_statistics(name, bomb, inception, tmp_path):
    file = tmp_path / name
    if name == "members.npz":
        np.savez(file, mu=np.zeros(2048), sigma=np.array([bomb], dtype=object))
    else:
        file.write_bytes(pickle.dumps(dict(mu=bomb, sigma=bomb)))
    with pytest.raises(InputError, match=r"FID\.reference=.*") as caught:
        FID(reference=str(file), weights=str(inception))
    if name == "members.npz":
        assert "members.npz is a pickle" in str(caught.value)


def test_statistics_of_another_size(inception, tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.zeros(4), sigma=np.zeros((4, 3)))
    np.savez_compressed(tmp_path / "b.npz", mu=np.zeros(2**26), sigma=np.zeros((1, 1)))  # 512 MiB out of half a MiB
    for name, reason in (("a", r"mu is \(4,\) and sigma \(4, 3\)"), ("b", "an array is larger than 256 MiB")):
        with pytest.raises(InputError, match=reason):
            FID(reference=str(tmp_path / f"{name}.npz"), weights=str(inception))


def test_class_pictures_and_pictures(bomb, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    for name in ("class_00000.png", "other.png", "other.npy", "other.gif"):
        (tmp_path / name).write_bytes(pickle.dumps(bomb))
    found = ClassPictures("a dog", str(tmp_path), count=2)
    assert [path.name for path, _ in found.files] == ["photo.png"]
    assert found.missing() == [0]


def test_an_encoder(bomb, tiny_clip, tmp_path):
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    next(folder.glob("*.safetensors")).unlink()
    torch.save(dict(bomb=bomb), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is a pickle"):
        Encoder(str(folder), "CLIPScore", text=True)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_code_beside_an_encoder(file, tiny_clip, tmp_path):
    """Code that transformers would offer to run, at a question in the terminal."""
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'gone_off')!r})\n")
    kinds = dict.fromkeys(("AutoConfig", "AutoModel", "AutoImageProcessor"), "mine.Mine") | dict(
        AutoTokenizer=["mine.Mine", None]
    )
    content = json.loads((folder / file).read_text())
    for key in ("model_type", "image_processor_type", "tokenizer_class"):
        if key in content:
            content[key] = "Mine"
    (folder / file).write_text(json.dumps(content | dict(auto_map=kinds)))

    def use() -> None:
        encoder = Encoder(str(folder), "CLIPScore", text=True)
        encoder.of_pictures([np.zeros((32, 32, 3), np.uint8)])
        encoder.of_captions(["a dog"])

    with contextlib.suppress(InputError):  # a tokenizer without its class is read by another one
        use()
    assert not (tmp_path / "gone_off").exists()


def test_a_data_set_with_a_loading_script(captioned_folder, tmp_path):
    folder = shutil.copytree(captioned_folder, tmp_path / "mine")
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'gone_off')!r})\n")
    with pytest.raises(InputError, match=r"mine: cannot be read: Dataset scripts are no longer supported"):
        CaptionedImages(str(folder))
    assert not (tmp_path / "gone_off").exists()


def test_the_config_in_the_folder_of_a_run(shapes_run, thin_sdxl, tmp_path):
    """An export reads it for the card."""
    run = shutil.copytree(shapes_run.work_dir, tmp_path / "run")
    config = run / f"{CONFIG}.py"
    assert read_dumped(config).to_dict() == read_config(config).to_dict()
    text = config.read_text() + "\n"
    for code in (f"import os\nos.mkdir({str(tmp_path / 'gone_off')!r})\n", "x = __import__('os')\n", "x = dict(**{})\n"):
        config.write_text(text + code)
        ended = tool("export", CONFIG, run / "unet", tmp_path / "out", *options(**shapes(thin_sdxl)))
        assert_one_line(ended, f"{config}: line ", "a run dumps its config as data alone")
    assert not (tmp_path / "gone_off").exists()
    assert not (tmp_path / "out").exists()


def test_names_in_files_are_no_paths(shapes_run, thin_sdxl, teacher, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('run')\n")
    run = shutil.copytree(shapes_run.work_dir, tmp_path / "run")
    figures = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(figures | dict(config="../evil")))
    ended = tool("export", CONFIG, run / "unet", tmp_path / "out", *options(**shapes(thin_sdxl)))
    assert ended.code == 0, ended
    index = dict(weight_map={"a": "../../secret.safetensors"})
    (teacher / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    ended = tool("train", runs.SHAPES, "--work-dir", tmp_path / "other", *options(**shapes(teacher)))
    assert_one_line(ended, "'../../secret.safetensors' is no name of a file beside it")
