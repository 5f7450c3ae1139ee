"""Pictures of several sources side by side, from the same initial noise."""

import numpy as np
import pytest
import runs
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.sampling.samplers import Row, all_prompts, draw_rows, samplers

PROMPTS = ["a red circle", "a blue square"]
ONE_STEP = dict(num_inference_steps=1)


def overrides(thin_sdxl, **changes) -> dict:
    changes = {"model__teacher__checkpoint": str(thin_sdxl), "model__sampling__num_inference_steps": 1} | changes
    return {key.replace("__", "."): value for key, value in changes.items()}


def read(folder) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def test_sources_side_by_side(shapes_run, thin_sdxl, tiny_sd, tmp_path):
    """The teacher once, three checkpoints of the student, and a pipeline; alone, each gives the same pictures."""
    run = shapes_run.work_dir
    config = runs.SHAPES.removesuffix(".py")
    sources = [f"{config}={run / 'unet'}", f"{config}={run / 'iter_3.pth'}", f"{config}={run / 'iter_6.pth'}", tiny_sd]
    options = ["--prompt", *PROMPTS, "--steps", 1, *runs.options(**runs.shapes(thin_sdxl))]
    ended = runs.tool("sample", *sources, "--out", tmp_path / "all", *options)
    assert ended.code == 0, ended
    pictures = read(tmp_path / "all")
    names = ["teacher", f"{config}_{run.name}", f"{config}_iter_3", f"{config}_iter_6", "sd"]
    assert set(pictures) == {"grid.png", *(f"{name}_{column}.png" for name in names for column in (0, 1))}
    assert all(np.array_equal(pictures[f"{names[1]}_{i}.png"], pictures[f"{names[3]}_{i}.png"]) for i in (0, 1))
    assert not np.array_equal(pictures[f"{names[1]}_0.png"], pictures[f"{names[2]}_0.png"])

    ended = runs.tool("sample", config, "--checkpoint", run / "unet", "--out", tmp_path / "one", *options)
    assert ended.code == 0, ended
    alone = read(tmp_path / "one")
    assert np.array_equal(alone["teacher_1.png"], pictures["teacher_1.png"])
    assert np.array_equal(alone["student_1.png"], pictures[f"{names[1]}_1.png"])


def first_inputs(found, monkeypatch) -> dict[str, list[torch.Tensor]]:
    """Sampler -> for two seeds what the denoiser saw first, divided by its length: the noise but for a factor."""
    calls: list[torch.Tensor] = []
    forward = UNet2DConditionModel.forward

    def spy(self, sample, *args, **kwargs):
        calls.append(sample[0].float())
        return forward(self, sample, *args, **kwargs)

    seen: dict[str, list[torch.Tensor]] = {}
    with monkeypatch.context() as patched:
        patched.setattr(UNet2DConditionModel, "forward", spy)
        for sampler in found:
            for seed in (5, 6):
                calls.clear()
                sampler.draw(PROMPTS[0], seed)
                seen.setdefault(sampler.name, []).append(calls[0] / calls[0].norm())
    return seen


def test_all_sources_start_from_the_same_noise(shapes_run, thin_sdxl, tiny_sd, monkeypatch):
    """Whatever their family, sampler and dtype, if only their latents have the same shape."""
    whole = [f"{runs.SHAPES}={shapes_run.work_dir / 'unet'}", str(thin_sdxl), str(tiny_sd)]
    seen = first_inputs(samplers(whole, ONE_STEP, overrides=overrides(thin_sdxl)), monkeypatch)
    half = first_inputs(samplers([str(tiny_sd)], ONE_STEP, dtype="bfloat16"), monkeypatch)
    expected, other = seen["teacher"]
    assert not torch.allclose(expected, other, atol=1e-2)
    for name in ("small_sd_xl_shapes_" + shapes_run.work_dir.name, "sdxl", "sd"):
        torch.testing.assert_close(seen[name], [expected, other])
    torch.testing.assert_close(half["sd"], [expected, other], rtol=0, atol=1e-3)


def test_a_method_for_few_steps_says_how_many_unless_the_user_does(thin_sdxl):
    """Of the student alone: its teacher is sampled as the config says."""
    sources, changes = [f"sdxl_shapes_lcm={thin_sdxl / 'unet'}"], overrides(thin_sdxl)
    own = {sampler.name: sampler.steps for sampler in samplers(sources, {}, overrides=changes)}
    asked = {sampler.name: sampler.steps for sampler in samplers(sources, dict(num_inference_steps=3), overrides=changes)}
    assert own["teacher"] == 1
    assert own["student"] == load_config("sdxl_shapes_lcm").model.method.steps
    assert asked == dict(teacher=3, student=3)


def test_a_row_says_what_it_is():
    row = Row("large", 1_234_567_890, 25, [], 2.094)
    assert row.label == "large\n1,235 M parameters\n2.1 s, 25 steps"
    assert Row("tiny", 1_234_567, 1, [], 0.1).label == "tiny\n1.23 M parameters\n0.1 s, 1 step"


def test_rows_know_size_and_steps(tiny_sd):
    (row,) = draw_rows(samplers([str(tiny_sd)], dict(num_inference_steps=2)), PROMPTS[:1], [0])
    assert (row.name, row.parameters, row.steps) == ("sd", 556_572, 2)
    assert row.seconds > 0


def test_two_pipelines_of_one_name_keep_their_pictures_apart(tiny_sd):
    rows = draw_rows(samplers([str(tiny_sd), str(tiny_sd)], ONE_STEP), PROMPTS[:1], [0])
    assert [row.name for row in rows] == ["sd", "sd_2"]
    assert np.array_equal(rows[0].pictures[0], rows[1].pictures[0])


def test_prompts_of_a_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a dog\n\n a cat \n")
    assert all_prompts(["first"], str(file)) == ["first", "a dog", "a cat"]
    assert all_prompts([], str(file), pictures=2) == ["a dog", "a dog", "a cat", "a cat"]


def test_pictures_of_one_prompt_differ(tiny_sd, tmp_path):
    ended = runs.tool("sample", tiny_sd, "--prompt", PROMPTS[0], "--pictures", 2, "--steps", 1, "--out", tmp_path)
    assert ended.code == 0, ended
    pictures = read(tmp_path)
    assert set(pictures) == {"grid.png", "sd_0.png", "sd_1.png"}
    assert not np.array_equal(pictures["sd_0.png"], pictures["sd_1.png"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--prompt"]),
        (["--prompts-file", "none.txt"], ["none.txt"]),
        (["--prompt", "x", "--pictures", "0"], ["--pictures 0"]),
        (["--prompt", "x", "--dtype", "float8"], ["float8", "bfloat16"]),
    ],
)
def test_mistakes_are_found_before_anything_is_drawn(tiny_sd, tmp_path, arguments, words):
    ended = runs.tool("sample", tiny_sd, *arguments, "--out", tmp_path / "out")
    assert ended.code == 2
    assert all(word in ended.err for word in words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "source", ["small_sd_xl_shapes=", "no_such_config", "small_sd_xl_shapes=none.pth", "diffdistill::x"]
)
def test_a_bad_source_is_found_before_the_first_is_loaded(tiny_sd, source):
    with pytest.raises(InputError):
        next(samplers([str(tiny_sd), source], ONE_STEP))
