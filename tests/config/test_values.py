"""Values of the wrong type, or outside the range in which a run can work, are refused before any weight is read."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import pytest
import runs
import torch
from mmengine.config import Config

from diffdistill.command import one_line, parse_options
from diffdistill.config.annotations import describe, fits, signature_of
from diffdistill.config.arguments import parameters_of
from diffdistill.config.check import check
from diffdistill.config.read import config_root, load_config
from diffdistill.config.values import Range
from diffdistill.errors import InputError


@pytest.fixture
def refused(thin_sdxl, tmp_path, monkeypatch):
    """What is said of the shapes config with changes: text as on the command line, anything else as in a file."""
    monkeypatch.chdir(tmp_path)

    def attempt(changes: dict, config: str = runs.SHAPES) -> str:
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        usual = {key.replace("__", "."): str(value) for key, value in runs.shapes(thin_sdxl).items()}
        given = {
            key: value for key, value in usual.items() if not any(f"{key}.".startswith(f"{other}.") for other in changes)
        }
        options = parse_options([f"{key}={value}" for key, value in given.items()])
        for key, value in changes.items():
            options |= parse_options([f"{key}={value}"]) if isinstance(value, str) else {key: value}
        with pytest.raises(InputError) as error:
            check(load_config(config, options, str(tmp_path / "run")))
        assert not list(tmp_path.iterdir())
        said = one_line(error.value)
        assert "\n" not in said
        assert len(said) < 500
        return said

    return attempt


COUNTS = {
    "train_dataloader.batch_size": (0, -1, 1.5, "text", True, None, "[1]"),
    "val_dataloader.batch_size": (0, 1.5, "text", None),
    "train_dataloader.num_workers": (-1, 1.5, "text", None),
    "train_dataloader.num_batch_per_epoch": (0, "text"),
    "train_cfg.max_iters": (0, -1, 1.5, "text", None, True),
    "train_cfg.val_interval": (0, -1, 1.5, "text", None),
    "optim_wrapper.accumulative_counts": (0, -1, 1.5, "text", None),
    "model.sampling.num_inference_steps": (0, -1, 1.5, "text", None, 5000),
    "model.sampling.height": (0, 20, "text"),
    "default_hooks.checkpoint.interval": (0, -2, 1.5, "text", None),
    "default_hooks.checkpoint.max_keep_ckpts": (0, 1.5, "text"),
    "default_hooks.samples.interval": (0, 1.5, "text", None),
    "default_hooks.logger.interval": (0, "text"),
    "log_processor.window_size": (0, 1.5, "text"),
    "train_dataloader.dataset.length": (0, 1.5, "text", True),
    "param_scheduler.0.T_max": (0, 1.5, "text"),
    "param_scheduler.0.end": (0, None),
}
SEEDS = {
    "randomness.seed": (-1, 1.5, "text", True, 2**40, [1]),
    "default_hooks.samples.seed": (-1, 1.5, "text", None),
    "train_dataloader.dataset.seed": (-1, 1.5, "text", None),
    "train_dataloader.sampler.seed": (1.5, "text"),
}
NUMBERS = {
    "model.losses.task.weight": (-1, math.nan, math.inf, "text", True, None),
    "model.losses.feature.weight": (-1, math.nan),
    "optim_wrapper.clip_grad.max_norm": (0, -1, math.nan, "text", None),
    "optim_wrapper.optimizer.lr": (-1, math.nan, math.inf, "text", None, True),
    "optim_wrapper.optimizer.betas": (1, "text", "[0.9]"),
    "optim_wrapper.optimizer.weight_decay": (-1, "text"),
    "model.sampling.guidance_scale": (-1, "text", "[1]"),
    "param_scheduler.0.eta_min": (-1, "text"),
}
OTHERS = {
    "model.gradient_checkpointing": ("no", 3),
    "model.losses.feature.normalize": ("yes",),
    "randomness.deterministic": ("yes",),
    "log_processor.by_epoch": ("no",),
    "train_dataloader.drop_last": ("no",),
    "default_hooks.samples.prompts": ("text", 3, "[1,2]", [["a"]], [None]),
    "model.sampling.negative_prompt": (3, ["a"]),
    "model.dtype": (None, ["float32"]),
    "model.teacher.variant": (3, ["fp16"]),
    "model.feature_pairs.level": (3, [1]),
    "model.feature_pairs.pairs": ("text", [1]),
    "model.student.fresh": (3, [1]),
    "train_dataloader.generator": (3,),
    "log_level": ("INFOO", None),
    "default_scope": ("mmengine",),
    "env_cfg.mp_cfg.mp_start_method": ("frok",),
    "load_from": (1,),
}
SECTIONS = {
    "model": (None, "text", []),
    "model.losses": (None, "text", []),
    "model.teacher": (None, "text"),
    "train_dataloader": (None, "text", []),
    "train_cfg": (None, 3),
    "optim_wrapper": (None, "text"),
    "optim_wrapper.optimizer": (None, "text"),
    "optim_wrapper.clip_grad": (1, "text"),
    "default_hooks": (3, []),
    "param_scheduler": (3, [1]),
    "custom_hooks": (3, ["text"]),
    "env_cfg": (None, "text"),
    "visualizer": ("text",),
    "visualizer.vis_backends": ("LocalVisBackend",),
    "log_processor": ("text",),
    "randomness": (None,),
}
ROWS = [(key, value) for table in (COUNTS, SEEDS, NUMBERS, OTHERS, SECTIONS) for key in table for value in table[key]]


@pytest.mark.parametrize(("key", "value"), ROWS, ids=str)
def test_a_value_that_cannot_be_is_named(refused, key, value):
    assert key.split(".")[-1] in refused({key: value})


@pytest.mark.parametrize("indices", [[0.0], [True], [[0]], ["a"], "text", 0, {}])
def test_layers_to_keep_are_whole_numbers(refused, indices):
    assert "down_blocks" in refused({"model.student.keep": {"down_blocks": indices}})


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        # keys of what hands its arguments on, or says no type
        (dict(default_hooks__checkpoint__intervall=5), ["default_hooks.checkpoint.intervall", "interval"]),
        (dict(default_hooks__logger__intervall=5), ["default_hooks.logger.intervall", "interval"]),
        (dict(param_scheduler__0__T_maxx=1), ["param_scheduler.0.T_maxx", "T_max"]),
        (dict(optim_wrapper__clip_grad__max_nrm=1), ["optim_wrapper.clip_grad.max_nrm", "max_norm"]),
        (dict(optim_wrapper__clip_grad__type="valu"), ["optim_wrapper.clip_grad.type='valu'", "'value'"]),
        (
            dict(optim_wrapper__clip_grad=dict(_delete_=True, type="value")),
            ["optim_wrapper.clip_grad.clip_value is missing"],
        ),
        (dict(log_processor__windowsize=1), ["log_processor.windowsize", "window_size"]),
        (dict(val_cfg__fp_16=1), ["val_cfg.fp_16", "fp16"]),
        (dict(env_cfg__mp_cfg__start="fork"), ["env_cfg.mp_cfg.start", "mp_start_method"]),
        (dict(visualizer__nam="x"), ["visualizer.nam", "name"]),
        (dict(model__sampling__generator=1), ["model.sampling.generator is not a key"]),
        (dict(train_cfg=dict(_delete_=True, type="IterBasedTrainLoop")), ["train_cfg.max_iters is missing"]),
        # types
        (dict(model__losses__task=dict(type=None)), ["model.losses.task.type=None"]),
        (dict(default_hooks__logger=dict(type=3)), ["default_hooks.logger.type=3"]),
        (dict(model__method=dict(type="TaskLoss")), ["model.method.type='TaskLoss'", "method"]),
        (dict(default_hooks__ema=dict(type="EMAHook", ema_type="Mean")), ["ema_type='Mean'", "ExponentialMovingAverage"]),
        # what is refused by the objects themselves
        (dict(default_hooks__ema=dict(type="EMAHook", momentum=1.5)), ["default_hooks.ema.momentum=1.5"]),
        (dict(default_hooks__ema=dict(type="MomentumAnnealingEMA")), ["default_hooks.ema.type"]),
        (dict(optim_wrapper__optimizer__betas="[1,2]"), ["optim_wrapper.optimizer (AdamW)", "beta parameter"]),
        (dict(optim_wrapper__optimizer__foreach=True), ["optim_wrapper.optimizer", "foreach"]),
        (dict(param_scheduler__0__end=5, param_scheduler__0__begin=7), ["param_scheduler.0"]),
        (dict(train_dataloader__shuffle=True), ["train_dataloader", "shuffle"]),
        (dict(train_dataloader__worker_init_fn="x"), ["train_dataloader.worker_init_fn='x'"]),
        # what would do nothing, or harm
        (dict(param_scheduler__0__by_epoch=True), ["param_scheduler.0.by_epoch=False", "iterations"]),
        (dict(param_scheduler=[dict(type="LinearLR")]), ["param_scheduler.0.by_epoch=False"]),
        (dict(default_hooks__checkpoint__by_epoch=True), ["default_hooks.checkpoint.by_epoch=False"]),
        (
            dict(train_cfg=dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=2)),
            ["train_cfg.type", "IterBasedTrainLoop"],
        ),
        (dict(default_hooks__ema=dict(type="EMAHook", begin_epoch=3)), ["default_hooks.ema.begin_epoch=3", "begin_iter"]),
        (dict(default_hooks__ema=dict(type="EMAHook", begin_iter=300)), ["begin_iter=300", "max_iters=2"]),
        (dict(param_scheduler__0__begin=100), ["param_scheduler.0.begin=100", "train_cfg.max_iters=2"]),
        (dict(optim_wrapper__type="OptimWrapper", model__dtype="float16"), ["OptimWrapper", "float16", "MixedPrecision"]),
        (dict(default_hooks__timer=None), ["default_hooks.timer=None"]),
        (dict(default_hooks__checkpoint__filename_tmpl="x"), ["filename_tmpl='x'", "{}"]),
        (dict(default_hooks__checkpoint__save_best="accuracy"), ["save_best=['accuracy']"]),
        (dict(default_hooks__checkpoint__out_dir="/proc/x"), ["default_hooks.checkpoint.out_dir=/proc/x"]),
        (
            dict(model__student__adapter=dict(type="LoraConfig", target_modules=["to_q"], lora_alpha=0)),
            ["model.student.adapter.lora_alpha=0"],
        ),
        (
            dict(model__student__adapter=dict(type="LoraConfig", target_modules=["to_q"], inference_mode=True)),
            ["trains nothing", "inference_mode"],
        ),
        (
            dict(model__student__adapter=dict(type="LoraConfig", target_modules=3)),
            ["model.student.adapter.target_modules=3"],
        ),
        (
            dict(model__method=dict(_delete_=True, type="ProgressiveDistillation", steps=4)),
            ["model.losses.output", "ProgressiveDistillation", "None"],
        ),
        (dict(auto_scale_lr=dict(enable=True)), ["auto_scale_lr.base_batch_size is missing"]),
        # halves
        (dict(val_cfg=None), ["val_cfg", "val_dataloader, val_evaluator"]),
        (dict(val_evaluator=None), ["without val_evaluator"]),
        (dict(val_dataloader=None, val_evaluator=None), ["without val_dataloader and val_evaluator"]),
        # loaders without a batch, or without an end
        (
            dict(
                train_dataloader__dataset__length=1,
                train_dataloader__drop_last=True,
                train_dataloader__sampler=dict(type="DefaultSampler"),
            ),
            ["train_dataloader", "1 samples", "drop_last=True"],
        ),
        (dict(val_dataloader__sampler=dict(type="InfiniteSampler")), ["val_dataloader.sampler", "never ends"]),
        (dict(val_dataloader__dataset__type="ShapesDataset"), ["val_dataloader.dataset", "no seed"]),
        (dict(train_dataloader__collate_fn=dict(type="pseudo_collate")), ["train_dataloader.collate_fn", "default_collate"]),
    ],
    ids=lambda each: ",".join(each) if isinstance(each, dict) else "",
)
def test_what_cannot_be_built_or_would_do_nothing_is_named(refused, changes, parts):
    said = refused(changes)
    assert [part for part in parts if part not in said] == [], said


def test_gradients_are_clipped_by_value_too(thin_sdxl, tmp_path):
    options = runs.shapes(thin_sdxl, optim_wrapper__clip_grad__type="value", optim_wrapper__clip_grad__clip_value=0.5)
    config = load_config(runs.SHAPES, parse_options(runs.options(**options)[1:]), str(tmp_path / "run"))
    del config.optim_wrapper.clip_grad["max_norm"]
    assert check(config) is not None


def test_a_pipeline_of_transforms_ends_with_pack_inputs(tiny_sdxl, captioned_folder, tmp_path):
    options = runs.published(tiny_sdxl, captioned_folder)
    config = load_config(runs.PUBLISHED, parse_options(runs.options(**options)[1:]), str(tmp_path / "run"))
    config.train_dataloader.dataset.pipeline.pop()
    with pytest.raises(InputError, match="train_dataloader"):
        check(config)
    config.train_dataloader.collate_fn = dict(type="pseudo_collate")
    with pytest.raises(InputError, match=r"no pixel_values.*PackInputs"):
        check(config)


@pytest.mark.parametrize(
    ("annotation", "fitting", "others"),
    [
        (int, [0, -3], [True, 1.0, "1", None, [1]]),
        (float, [0, 1.5, math.inf], [True, math.nan, "1", None]),
        (bool, [True], [1, "true"]),
        (str, ["a"], [1, None, ["a"]]),
        (int | None, [None, 3], ["None", 1.5]),
        (Sequence[str], [["a"], ("a", "b"), []], ["a", [1], {"a": 1}]),
        (tuple[float, float], [(0.9, 1), [0, 1]], [[1], [1, "a"], 1]),
        (Mapping[str, Sequence[int] | None], [{}, {"a": None, "b": [1]}], [[], {"a": [True]}, {"a": 1}]),
        (Literal["a", 1], ["a", 1], ["b", True]),
        (torch.Tensor | float, [1.5, dict(type="x")], ["a", [1]]),
        (inspect.Parameter.empty, [None, "a", ...], []),
    ],
    ids=str,
)
def test_a_value_fits_its_annotation(annotation, fitting, others):
    assert all(fits(value, annotation) for value in fitting)
    assert not [value for value in others if fits(value, annotation)]
    assert isinstance(describe(annotation), str)


def test_arguments_are_those_of_all_classes_that_get_them():
    class Base:
        def __init__(self, size: "int" = 1): ...

    class Middle(Base):
        def __init__(self, *args, name: "Unknown" = "a", **kwargs): ...  # noqa: F821

    assert list(parameters_of(Middle, {})) == ["size", "name"]
    assert signature_of(Base)["size"].annotation is int
    assert signature_of(Middle)["name"].annotation is inspect.Parameter.empty


def test_a_range_says_what_is_in_it():
    assert 1 in Range(1, whole=True)
    assert 1.0 not in Range(1, whole=True)
    assert -1 in Range(1, whole=True, never=True)
    assert math.inf not in Range()
    assert math.inf in Range(endless=True)
    assert str(Range(1, whole=True, never=True)) == "a whole number, 1 or more, or -1 for never"
    assert str(Range(0, 1, above=True)) == "a number, above 0, and at most 1"


def test_a_variable_of_ones_own_is_no_mistake_and_a_misspelt_section_is(tmp_path):
    mine = tmp_path / "mine.py"
    for line, said in {
        "image_size = 1024": None,
        "train_pipeline = [dict(type='PackInputs')]": None,
        "optim_wraper = dict(optimizer=dict(lr=1))": "optim_wraper.*optim_wrapper",
        "modle = dict(dtype='float16')": "modle.*model",
        "default_hook = dict()": "default_hook.*default_hooks",
    }.items():
        mine.write_text(f"_base_ = ['{config_root()}/shapes/small_sd_xl_shapes.py']\n{line}\n")
        if said is None:
            assert isinstance(load_config(str(mine)), Config)
        else:
            with pytest.raises(InputError, match=said):
                load_config(str(mine))
