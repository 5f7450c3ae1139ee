"""`mim test --protocol coco_30k` on two captions and one metric, and what stops it, or a training, before it starts."""

import json
import shutil

import pytest
import runs

from diffdistill.config.read import load_config
from diffdistill.metrics.protocol import protocol_of
from diffdistill.registry import METRICS, MODELS

CONFIG = "bk_sdm_base_distill_from_sd_14_laion_212k.py"


@pytest.fixture
def measured(tiny_sd, tmp_path):
    def run(captions="a red circle\na dog\n", **changes) -> runs.Ended:
        (tmp_path / "captions.txt").write_text(captions)
        options = dict(
            model__teacher__checkpoint=tiny_sd,
            model__dtype="float32",
            test_dataloader__dataset__source=tmp_path / "captions.txt",
            **changes,
        )
        args = ("--teacher", "--protocol", "coco_30k", "--work-dir", tmp_path / "run", *runs.options(**options))
        return runs.tool("test", CONFIG, *args)

    return run


def test_a_published_student_is_measured_by_it(measured, tiny_clip, tmp_path, monkeypatch):
    """With the CLIP score alone; the sampler is the protocol's and not the config's."""
    evaluator = f'[dict(type="CLIPScore", checkpoint="{tiny_clip}", resize=256)]'
    text = (runs.ROOT / "configs/_base_/evaluation/coco_30k.py").read_text().replace("512", "32")
    (tmp_path / "mine.py").write_text(f"{text}\ntest_evaluator = {evaluator}\n")
    monkeypatch.setattr("diffdistill.config.read.find_protocol", lambda name: tmp_path / "mine.py")
    ended = measured()
    assert ended.code == 0, ended
    (record,) = json.loads((tmp_path / "run" / "test" / "results.json").read_text())["results"]
    assert -1 < record["clip_score"] < 1
    protocol = protocol_of(record, "clip_score")
    assert protocol.pop("captions").startswith("captions of captions.txt")
    assert protocol == dict(
        metric="CLIPScore", n=2, seed=1234, scheduler="PNDMScheduler", steps=25, guidance_scale=7.5, resolution=[32, 32],
        scheduler_options=dict(skip_prk_steps=True), weights="clip", resize=256,
    )  # fmt: skip
    assert "CLIPScore: weights clip, resize 256" in ended.out


def test_the_protocol_is_that_of_bk_sdm():
    config = load_config(CONFIG, protocol="coco_30k")
    assert config.test_cfg.sampling == dict(
        scheduler=dict(type="PNDMScheduler", skip_prk_steps=True),
        num_inference_steps=25, guidance_scale=7.5, height=512, width=512,
    )  # fmt: skip
    assert [metric.resize for metric in config.test_evaluator] == [256, 256, 256]
    assert all(METRICS.get(metric.type) for metric in config.test_evaluator)
    assert config.get("val_evaluator") is None


def test_its_25_steps_are_26_evaluations_of_any_checkpoint(tiny_sd, tmp_path):
    """PNDM repeats its second step. Without `skip_prk_steps`, which some checkpoints lack, Runge-Kutta adds eight more."""
    folder = shutil.copytree(tiny_sd, tmp_path / "sd")
    file = folder / "scheduler" / "scheduler_config.json"
    lacking = {key: value for key, value in json.loads(file.read_text()).items() if key != "skip_prk_steps"}
    file.write_text(json.dumps(lacking))

    protocol = load_config(CONFIG, {"model.teacher.checkpoint": str(folder), "model.dtype": "float32"}, protocol="coco_30k")
    model = MODELS.build(dict(protocol.model, sampling=dict(protocol.test_cfg.sampling, height=32, width=32)))
    calls = []
    model.student.register_forward_pre_hook(lambda *_: calls.append(1))
    model.sample_latents(["a red circle"], [0])
    assert len(calls) == 26


def test_what_is_missing_is_said_before_the_teacher_is_loaded(measured, tmp_path):
    ended = measured()
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "FID.weights=data/weights-inception-2015-12-05-6726825d.pth: no such file; download it from https" in ended.err
    ended = measured(captions="\n")
    assert "captions.txt is empty" in ended.err
    assert not (tmp_path / "run").exists()


def test_a_training_does_not_start_without_the_weights_of_its_validation(thin_sdxl, tmp_path):
    for type_, option in (("CLIPScore", "checkpoint"), ("InceptionScore", "weights")):
        changes = {"val_evaluator__type": type_, f"val_evaluator__{option}": "/nowhere"}
        options = runs.options(**runs.shapes(thin_sdxl, **changes))
        ended = runs.tool("train", runs.SHAPES, "--work-dir", tmp_path / "run", *options)
        assert ended.code == 2
        assert f"error: {type_}.{option}=/nowhere: no such" in ended.err
        assert not (tmp_path / "run").exists()


def test_an_unknown_protocol_is_answered_with_those_there_are():
    ended = runs.tool("test", CONFIG, "--teacher", "--protocol", "coco")
    assert ended.code == 2
    assert "--protocol coco: neither a file nor one of coco_30k" in ended.err
