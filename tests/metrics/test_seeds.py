"""PositionEntropy and SeedSpread: known answers, and that a model which does not look at the seed shows everywhere."""

import json
import math
import shutil

import numpy as np
import pytest
import runs
import torch
from diffusers import AutoencoderKL
from transformers import AutoImageProcessor, AutoModel

from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.metrics.record import warning_of
from diffdistill.metrics.seeds import PositionEntropy, SeedSpread, entropy, further_seeds, spread
from diffdistill.models.distiller import Distiller
from diffdistill.shapes import world

OPEN = "a large red circle on a blue background"
SAID = "a small white cross on a black background at the top"


class Painter:
    """A model whose pictures show what their captions state, at a position that `place` finds from the seed."""

    teacher, draws_teacher = None, False

    def __init__(self, place):
        self.place, self.asked = place, []

    def sample(self, captions, seeds, teacher=False):
        self.asked.append((list(captions), list(seeds)))
        stated = [world.parse(caption) for caption in captions]
        shape, colour, background, size = np.array([each[:4] for each in stated]).T
        position = np.array([self.place(seed) for seed in seeds])
        scenes = world.Scenes(
            shape, colour, background, size, position,
            said=np.zeros(len(stated), bool),
            centre=world.ANCHORS[position],
            radius=np.array(world.RADIUS, np.float32)[size],
            rgb=world.RGB[np.stack([colour, background], 1)],
        )  # fmt: skip
        return world.draw(scenes)


def samples(model, captions, first=0):
    seeds = range(first, first + len(captions))
    pictures = model.sample(captions, seeds)
    return [dict(caption=c, seed=s, image=p) for c, s, p in zip(captions, seeds, pictures, strict=True)]


def measured(metric, model, captions=(OPEN, SAID, OPEN), batch=2):
    metric.model, given = model, samples(model, captions)
    for start in range(0, len(given), batch):
        metric.process(None, given[start : start + batch])
    return metric.evaluate(len(given))


@pytest.mark.parametrize("share", [[0.2] * 5, [0.7, 0.1, 0.1, 0.05, 0.05], [0.5, 0.5]])
@pytest.mark.parametrize("n", [8, 16])
def test_the_estimate_of_the_entropy_has_the_bias_that_theory_says(share, n):
    """- sum_k>=n 1/k sum_i p_i (1 - p_i)^k, about half of that of plain frequencies or less."""
    draw, p, k = np.random.default_rng(0), np.array(share), np.arange(n, 1000)[:, None]
    true, bias = -(p * np.log2(p)).sum(), (p * (1 - p) ** k / k).sum() / math.log(2)
    outcomes = [draw.choice(len(p), n, p=p) for _ in range(4000)]
    assert np.mean([entropy(each) for each in outcomes]) == pytest.approx(true - bias, abs=0.02)
    plain = [np.bincount(each) / n for each in outcomes]
    assert bias < (true - np.mean([-(q[q > 0] * np.log2(q[q > 0])).sum() for q in plain])) * 0.6


def test_one_position_has_no_entropy():
    assert entropy([3] * 2) == entropy([3] * 16) == 0


def test_a_model_that_uses_its_seed_is_told_from_one_that_does_not():
    draw = np.random.default_rng(0)
    lively = measured(PositionEntropy(2, 16), Painter(lambda seed: int(draw.integers(5))))["position_entropy"]
    assert 1.9 < lively < 2.7
    assert measured(PositionEntropy(2, 16), Painter(lambda seed: 2)) == dict(position_entropy=0)


def test_different_captions_at_different_positions_are_no_entropy():
    """What a pooled entropy would not see: the position follows from the caption."""
    model, green = Painter(None), OPEN.replace("red", "green")
    model.sample = lambda captions, seeds, teacher=False: np.concatenate(
        [Painter(lambda seed, c=c: int(c == green)).sample([c], [0]) for c in captions]
    )
    assert measured(PositionEntropy(2, 8), model, [OPEN, green]) == dict(position_entropy=0)


def test_only_the_first_captions_that_leave_the_position_open_are_drawn_again():
    model = Painter(lambda seed: seed % 5)
    metric = PositionEntropy(captions=2, seeds_per_caption=3)
    measured(metric, model, [SAID, OPEN, OPEN, OPEN], batch=4)
    assert model.asked[1:] == [([OPEN] * 2, further_seeds([1, 2], n)) for n in (1, 2)]
    assert metric.settings() == dict(captions_over_seeds=2, seeds_per_caption=3)


def test_the_noise_of_further_seeds_differs():
    seeds = [seed for n in range(16) for seed in further_seeds(range(256), n)]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**32  # torch's generator of the CPU looks at no more bits


def test_pictures_without_a_shape_count_for_nothing():
    seeds = [0, *(further_seeds([0], n)[0] for n in range(1, 6))]

    def grey(unread):
        model = Painter(None)

        def sample(captions, given, teacher=False):
            drawn = Painter(lambda seed: int(seed == seeds[0])).sample(captions, given)
            drawn[[seed in unread for seed in given]] = 127
            return drawn

        model.sample = sample
        return model

    assert measured(PositionEntropy(1, 6), grey([]), [OPEN])["position_entropy"] == pytest.approx(
        entropy([1, 0, 0, 0, 0, 0])
    )
    assert measured(PositionEntropy(1, 6), grey(seeds[1:4]), [OPEN])["position_entropy"] == pytest.approx(entropy([1, 0, 0]))
    assert measured(PositionEntropy(1, 6), grey(seeds[1:5]), [OPEN]) == {}  # more than half


def test_pictures_and_captions_of_another_world_are_refused():
    model = Painter(lambda seed: 0)
    sample, metric = samples(model, [OPEN])[0], PositionEntropy(1, 2)
    metric.model = model
    with pytest.raises(InputError, match="a photo of a dog"):
        metric.process(None, [dict(sample, caption="a photo of a dog")])
    with pytest.raises(InputError, match=r"PositionEntropy: a picture is uint8 \(64, 64, 3\)"):
        metric.process(None, [dict(sample, image=np.zeros((64, 64, 3), np.uint8))])


def test_stars_are_left_out():
    model = Painter(lambda seed: 0)
    metric = PositionEntropy(4, 2)
    metric.model = model
    metric.process(None, [dict(samples(model, [OPEN])[0], caption="a large red s on a blue background", star=True)])
    assert metric.results == []


@pytest.mark.parametrize("kind", [PositionEntropy, SeedSpread])
@pytest.mark.parametrize("bad", [dict(captions=0), dict(seeds_per_caption=1)])
def test_bad_settings_are_refused(kind, bad, tiny_dino):
    own = dict(checkpoint=str(tiny_dino)) if kind is SeedSpread else {}
    name, value = next(iter(bad.items()))
    with pytest.raises(InputError, match=rf"{kind.__name__}\.{name}={value}.*(give 2 or more|at least 1)"):
        kind(**own, **bad)


def test_a_folder_without_a_vision_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=rf"SeedSpread\.checkpoint={tmp_path}.*config\.json"):
        SeedSpread(str(tmp_path))
    with pytest.raises(InputError, match=r"SeedSpread\.checkpoint=/nowhere"):
        SeedSpread("/nowhere")


def test_the_spread_is_the_mean_over_pairs():
    features = torch.nn.functional.normalize(torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    expected = torch.stack([1 - (features[:, i] * features[:, j]).sum(-1) for i, j in pairs]).mean(0)
    torch.testing.assert_close(spread(features), expected)


def distiller(folder, **options) -> Distiller:
    sampling = dict(num_inference_steps=1, guidance_scale=1.0)
    teacher, losses = dict(type="StableDiffusion", checkpoint=str(folder)), dict(output=dict(type="OutputKD"))
    return Distiller(teacher=teacher, losses=losses, sampling=sampling, **options).eval()


@pytest.mark.parametrize("kind", ["tiny_dino", "tiny_clip"])
def test_the_spread_of_a_pipeline_is_that_of_its_pictures(kind, tiny_sd, request):
    folder, model = request.getfixturevalue(kind), distiller(tiny_sd)
    figures = measured(SeedSpread(str(folder), captions=2, seeds_per_caption=3), model, ["a dog", "a cat"])
    assert figures["seed_spread_kept"] == pytest.approx(100)  # the student is its teacher
    network, found = AutoModel.from_pretrained(folder).eval(), []
    prepare = AutoImageProcessor.from_pretrained(folder, use_fast=False)
    for number, caption in enumerate(["a dog", "a cat"]):
        seeds = [number, *(further_seeds([number], n)[0] for n in (1, 2))]
        pixels = prepare(images=list(model.sample([caption] * 3, seeds)), return_tensors="pt").pixel_values
        with torch.no_grad():
            if kind == "tiny_clip":
                features = network.visual_projection(network.vision_model(pixels).pooler_output)
            else:
                features = network(pixels).last_hidden_state[:, 0]
        likeness = torch.cosine_similarity(features[:, None], features[None], dim=-1)
        found.append(1 - (likeness.sum().item() - 3) / 6)
    assert figures["seed_spread"] == pytest.approx(np.mean(found), abs=1e-6)


def test_a_student_that_ignores_the_seed_keeps_nothing_of_the_spread(tiny_sd, tiny_dino):
    """The teacher's own is measured once, and again in no later validation."""
    model, sample = distiller(tiny_sd), []
    draw = model.sample

    def drawn(captions, seeds, teacher=False):
        sample.append(teacher)
        return draw(captions, list(seeds) if teacher else [0] * len(seeds), teacher)

    model.sample = drawn
    metric = SeedSpread(str(tiny_dino), captions=1, seeds_per_caption=3)
    for _ in range(2):
        figures = measured(metric, model, ["a dog"])
        assert figures["seed_spread"] == pytest.approx(0, abs=1e-6)
        assert figures["seed_spread_kept"] == pytest.approx(0, abs=0.01)
    assert sample.count(True) == 3
    model.draws_teacher = True
    assert measured(metric, model, ["a dog"])["seed_spread_kept"] == 100


def test_without_a_teacher_there_is_the_spread_alone(tiny_sd, tiny_dino):
    model = Distiller(teacher=dict(type="StableDiffusion", checkpoint=str(tiny_sd)), losses={}, sampling={}).eval()
    model.sample_with(num_inference_steps=1, guidance_scale=1.0)
    assert set(measured(SeedSpread(str(tiny_dino), 1, 2), model, ["a dog"])) == {"seed_spread"}


@pytest.mark.parametrize(("name", "low", "high"), [("position_entropy", 0, 1.2), ("x/seed_spread_kept", 4, 30)])
def test_low_figures_are_warned_of(name, low, high):
    assert warning_of(name, high) is None
    assert warning_of(name, low).startswith(f"{name} {low}: the model draws (almost) the same picture")
    assert warning_of("accuracy", 0) is None


@pytest.mark.parametrize(
    ("name", "teacher", "half"),
    [("position_entropy", 2.25, 1.25), ("a/seed_spread", 0.5, 0.25), ("seed_spread_kept", 100, 50)],
)
def test_half_of_the_teachers_pictures_is_warned_of(name, teacher, half):
    """An entropy a bit lower is half as many positions."""
    assert warning_of(name, half, teacher) is None
    warning = warning_of(name, half - 0.01, teacher)
    assert warning.startswith(f"{name} {half - 0.01:.3g}, the teacher's {teacher:.3g}: less than half as many")
    assert warning_of("accuracy", 1, 99) is None


@pytest.fixture(scope="module")
def collapsed_run(thin_sdxl, tiny_dino, tmp_path_factory) -> tuple:
    """Config, teacher and run of a pipeline whose decoder draws one picture, whatever the seed."""
    folder = tmp_path_factory.mktemp("collapsed")
    teacher = shutil.copytree(thin_sdxl, folder / "teacher")
    decoder = AutoencoderKL.from_pretrained(teacher / "vae")
    torch.nn.init.zeros_(decoder.decoder.conv_out.weight)
    decoder.save_pretrained(teacher / "vae")
    config = folder / "collapsed.py"
    config.write_text(
        f"""_base_ = ["diffdistill::shapes/{runs.SHAPES}"]
val_evaluator = [
    dict(type="CaptionAccuracy"),
    dict(type="PositionEntropy", captions=1, seeds_per_caption=2),
    dict(type="SeedSpread", checkpoint={str(tiny_dino)!r}, captions=2, seeds_per_caption=2)]
"""
    )
    return config, teacher, runs.trained(config, folder / "run", runs.shapes(teacher))


def test_a_student_that_draws_one_picture_shows_in_log_figures_and_report(collapsed_run):
    *_, run = collapsed_run
    records = json.loads((run.work_dir / "results.json").read_text())["validation"]
    assert [record["seed_spread"] for record in records] == [pytest.approx(0, abs=1e-6)] * 3
    assert not any("position_entropy" in record for record in records), "no picture shows a shape"
    protocol = records[-1]["protocol"]
    assert (protocol["n"], protocol["metrics"]["PositionEntropy"]["seeds_per_caption"]) == (2, 2)
    (log,) = run.work_dir.glob("*/*.log")
    warning = "the model draws (almost) the same picture from every seed of a caption"
    assert warning in log.read_text()
    page = (run.work_dir / "report.html").read_text()
    assert f"{warning}.</p>" in page
    compared = runs.tool("report", run.work_dir, run.work_dir, "--out", run.work_dir / "two.html")
    assert compared.code == 0, compared
    assert "!</td>" in (run.work_dir / "two.html").read_text()


def test_a_student_that_draws_one_picture_shows_in_tests_and_in_its_card(collapsed_run):
    config, teacher, run = collapsed_run
    student, options = run.work_dir / "unet", runs.options(**runs.shapes(teacher))
    ended = runs.tool("test", config, "--checkpoint", student, "--teacher", "--work-dir", run.work_dir, *options)
    assert ended.code == 0, ended
    (row,) = (line for line in ended.out.splitlines() if line.strip().startswith("seed_spread"))
    assert row.count(" !") == 2
    assert "\n! student: seed_spread" in ended.out
    assert "SeedSpread: captions_over_seeds 2, seeds_per_caption 2, weights dino" in ended.out
    out = run.work_dir.parent / "export"
    ended = runs.tool("export", config, out, "--checkpoint", student, "--dtype", "float32", *options)
    assert ended.code == 0, ended
    card = (out / "README.md").read_text()
    assert "**Warning**: seed_spread" in card
    assert "| spread over seeds of a caption |" in card


def test_steps_are_measured_over_seeds_too(collapsed_run):
    config, teacher, run = collapsed_run
    options = runs.options(**runs.shapes(teacher))
    args = ("benchmark", "steps", config, "--checkpoint", run.work_dir / "unet", "--steps", "1", "2")
    ended = runs.tool(*args, "--json", run.work_dir / "steps.json", *options)
    assert ended.code == 0, ended
    rows = json.loads((run.work_dir / "steps.json").read_text())
    assert all({"accuracy", "seed_spread"} <= set(row) for row in rows)
    other = config.with_name("agreement.py")
    other.write_text(f"_base_ = ['diffdistill::shapes/{runs.SHAPES}']\nval_evaluator = [dict(type='TeacherAgreement')]\n")
    ended = runs.tool(*args[:2], other, *args[3:], *options)
    runs.assert_one_line(ended, "val_evaluator.0: TeacherAgreement needs teacher and student at once", "mim test")


def test_the_shapes_protocol_over_seeds_leaves_that_of_the_accuracy_alone():
    """Figures of a run, of `--protocol shapes_seeds`, and of configs of few steps may stand in one table."""
    plain = load_config(runs.SHAPES)
    by_protocol, few = load_config(runs.SHAPES, protocol="shapes_seeds"), load_config("sdxl_shapes_progressive.py")
    assert by_protocol.test_dataloader == few.val_dataloader == plain.val_dataloader
    assert by_protocol.test_evaluator == few.val_evaluator == [dict(plain.val_evaluator), dict(type="PositionEntropy")]
