"""Every student in configs/: where its first weights come from, its feature pairs, and a step of the small ones."""

import itertools
import re

import plans
import published
import pytest
import tiny
import torch
from diffusers import UNet2DConditionModel
from torch.utils.data import default_collate

from diffdistill.config.read import load_config
from diffdistill.families.architectures import load_architecture
from diffdistill.models.saved import save_models
from diffdistill.registry import DATASETS, MODELS
from diffdistill.students.cut import plan_student
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import derive_pairs, recovering, split_stream
from diffdistill.students.weights import make_student

STUDENTS = plans.students()
SHAPES = [path.stem for path in plans.RUNS if path.parent.name == "shapes" and plans.compares_features(path.stem)]
SD = load_architecture("sd_1")["unet/config.json"]


# Which teacher layer a student layer starts from: the published scripts, as substitutions in the names of tensors.
SKIP_THE_MIDDLE = [(r"^(up_blocks\.\d\.(?:resnets|attentions))\.1\.", r"\1.2.")]
DROP_THE_INNERMOST = [*SKIP_THE_MIDDLE, (r"^up_blocks\.(\d)", lambda match: f"up_blocks.{int(match[1]) + 1}")]
SOURCES = {
    "bk_sdm_base_distill_from_sd_14_laion_212k": SKIP_THE_MIDDLE,
    "bk_sdm_small_distill_from_sd_14_laion_212k": SKIP_THE_MIDDLE,
    "bk_sdm_tiny_distill_from_sd_14_laion_212k": DROP_THE_INNERMOST,
    "bk_sdm_v2_base_distill_from_sd_21_laion_212k": SKIP_THE_MIDDLE,
    "bk_sdm_v2_small_distill_from_sd_21_laion_212k": SKIP_THE_MIDDLE,
    "bk_sdm_v2_tiny_distill_from_sd_21_laion_212k": DROP_THE_INNERMOST,
    "sd_small_distill_from_realistic_vision_4_laion_art": SKIP_THE_MIDDLE,
    "sd_tiny_distill_from_realistic_vision_4_laion_art": DROP_THE_INNERMOST,
    "small_sd_xl_pokemon_blip": SKIP_THE_MIDDLE,
    "tiny_sd_xl_pokemon_blip": SKIP_THE_MIDDLE,
    "koala_1b_distill_from_sdxl_turbo_laion_pop": SKIP_THE_MIDDLE,
    "koala_700m_distill_from_sdxl_turbo_laion_pop": SKIP_THE_MIDDLE,
    "ssd_1b_distill_from_sdxl_pokemon_blip": [],
    "vega_distill_from_sdxl_pokemon_blip": [],
}


def random_teacher(name: str):
    """The teacher of a config in reduced widths, every tensor of its own random values."""
    if plans.read(name).model.teacher.type == "StableDiffusionXL":
        teacher = tiny.sdxl_unet()
    elif "_v2_" in name:
        teacher = tiny.sd_unet(attention_head_dim=(1, 2, 4, 4), use_linear_projection=True)
    else:
        teacher = tiny.sd_unet()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.normal_()
    return teacher


def keep_of(name: str) -> dict:
    return plans.read(name).model.student.keep.to_dict()


@pytest.mark.parametrize("name", SOURCES)
def test_first_weights_are_those_of_the_published_layers(name):
    teacher = random_teacher(name)
    student, _ = make_student(teacher, keep_of(name))
    source = teacher.state_dict()
    for tensor, value in student.state_dict().items():
        origin = tensor
        for pattern, replacement in SOURCES[name]:
            origin = re.sub(pattern, replacement, origin)
        assert torch.equal(value, source[origin]), f"{tensor} is not the teacher's {origin}"


def test_sdxl_to_ssd_1b_to_vega_chains_exactly():
    ssd_1b, vega = "ssd_1b_distill_from_sdxl_pokemon_blip", "vega_distill_from_ssd_1b_pokemon_blip"
    teacher = random_teacher(ssd_1b)
    between, _ = make_student(teacher, keep_of(ssd_1b))
    chained, _ = make_student(between, keep_of(vega))
    direct, _ = make_student(teacher, keep_of(vega))
    ours, theirs = chained.state_dict(), direct.state_dict()
    assert ours.keys() == theirs.keys() <= between.state_dict().keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {k: v for k, v in chained.config.items() if k[0] != "_"} == {
        k: v for k, v in direct.config.items() if k[0] != "_"
    }


def same(*names: str) -> list[tuple[str, str]]:
    return [(name, name) for name in names]


def shifted(count: int) -> list[tuple[str, str]]:
    return [(f"up_blocks.{i}", f"up_blocks.{i + 1}") for i in range(count)]


DOWN, UP = [f"down_blocks.{i}" for i in range(4)], [f"up_blocks.{i}" for i in range(4)]
LAST_ATTENTION = ("down_blocks.2.attentions.0.proj_out", "down_blocks.2.attentions.1.proj_out")
PAIRS = {
    "bk_sdm_base": same(*DOWN, *UP),
    "bk_sdm_small": same(*DOWN, *UP),
    "bk_sdm_tiny": [*same(*DOWN[:2]), LAST_ATTENTION, *shifted(3)],
    "bk_sdm_v2_base": same(*DOWN, *UP),
    "bk_sdm_v2_small": same(*DOWN, *UP),
    "bk_sdm_v2_tiny": [*same(*DOWN[:2]), LAST_ATTENTION, *shifted(3)],
    "sd_small": same(*DOWN, "mid_block", *UP),
    "sd_tiny": [*same(*DOWN[:2]), ("down_blocks.2", "up_blocks.0"), *shifted(3)],
    "small_sd_xl": same(*DOWN[:3], "mid_block", *UP[:3]),
    "tiny_sd_xl": [*same(*DOWN[:2]), ("down_blocks.2", "mid_block"), *same(*UP[:3])],
}


@pytest.mark.parametrize("name", [name for name in STUDENTS if published.student_of(name) in PAIRS])
def test_stages_are_compared_as_published(name):
    assert plans.plan(name).pairs == PAIRS[published.student_of(name)]


@pytest.mark.parametrize("name", [name for name in STUDENTS if published.student_of(name) in ("ssd_1b", "vega")])
def test_ssd_1b_and_vega_compare_every_layer_that_survives(name):
    """Every ResNet and attention with its namesake; the mid block's only ResNet with the teacher's last (Segmind)."""
    found = plans.plan(name)
    stages = itertools.product((("down_blocks", 2), ("up_blocks", 3)), ("resnets", "attentions"))
    expected = {
        f"{side}.{stage}.{kind}.{i}"
        for (side, count), kind in stages
        for stage in range(3)
        for i in range(count)
        if kind == "resnets" or f"{side}.{stage}" not in ("down_blocks.0", "up_blocks.2")
    }
    resnets = len(found.layers.kept["mid_block.resnets"])
    teachers = 1 if found.family.checkpoint.name == "segmind/SSD-1B" else 2
    assert resnets == 1
    assert set(found.pairs) == {*same(*expected), ("mid_block.resnets.0", f"mid_block.resnets.{teachers - 1}")}
    assert len(found.pairs) == 26


@pytest.mark.parametrize("name", [name for name in STUDENTS if name.startswith("koala")])
def test_koala_compares_every_self_attention_it_keeps(name):
    """Down and up stages of 2 and of 6 or 5 transformer layers, one attention down and two up; two stages without any."""
    depth = 6 if "1b" in name else 5
    blocks = [("down_blocks.1", 0, 0, 2), ("down_blocks.2", 0, 0, depth)]
    blocks += [
        ("up_blocks.0", 0, 0, depth),
        ("up_blocks.0", 1, 2, depth),
        ("up_blocks.1", 0, 0, 2),
        ("up_blocks.1", 1, 2, 2),
    ]
    blocks += [("mid_block", 0, 0, 6)] if "1b" in name else []
    expected = {
        tuple(f"{block}.attentions.{attention}.transformer_blocks.{i}.attn1" for attention in (ours, theirs))
        for block, ours, theirs, count in blocks
        for i in range(count)
    }
    assert set(plans.plan(name).pairs) == {*expected, *same("down_blocks.0", "up_blocks.2")}


STREAMS = ("", ":text")


@pytest.mark.parametrize("stream", STREAMS)
def test_flux_mini_compares_as_its_authors_say(stream):
    """Double block x with the teacher's 4x (TencentARC's config and model card), single ones with those they came from."""
    singles = [3, 7, 11, 15, 19, 23, 27, 31, 35, 37]
    expected = [*enumerate([3, 7, 11, 15, 18])], [*enumerate(singles)]
    found = plans.plan("flux_mini_distill_from_flux_dev_laion_pop").pairs
    for path, pairs in zip(("transformer_blocks", "single_transformer_blocks"), expected, strict=True):
        assert {(f"{path}.{ours}{stream}", f"{path}.{theirs}{stream}") for ours, theirs in pairs} <= set(found)
    assert len(found) == len(STREAMS) * (5 + 10)


def test_ppcl_compares_the_first_block_of_an_interval_with_its_end():
    ends = {3: 4, 5: 7, 8: 10, 11: 12, 15: 24, 25: 27, 29: 30, 42: 43, 45: 47, 48: 49, 52: 53, 54: 55, 56: 57}
    dropped = {block for start, end in ends.items() for block in range(start + 1, end + 1)}
    kept = [block for block in range(60) if block not in dropped]
    found = plans.plan("qwen_image_35_recover_from_qwen_image_laion_pop").pairs
    assert set(found) == {
        (f"transformer_blocks.{ours}{stream}", f"transformer_blocks.{ends.get(origin, origin)}{stream}")
        for ours, origin in enumerate(kept)
        for stream in STREAMS
    }
    assert len(kept) == 35


def pairs_on_sd(cut: str, **options) -> list[tuple[str, str]]:
    """The pairs of stages and mid block that the rule gives a cut of SD 1.x."""
    keep = plans.keep_of_cut(cut)
    config, layers = plan_student(UNet2DConditionModel, SD, keep)
    return derive_pairs(UNet2DConditionModel, config, SD, layers, level="blocks", **options)


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("bk_sdm_base", PAIRS["sd_small"]),
        ("bk_sdm_small", [*same(*DOWN[:3]), ("down_blocks.3", "mid_block"), *same(*UP)]),
        # Segmind's odd pair for SD-Tiny: its innermost stage hands its successor what the teacher's up_blocks.0 does.
        ("bk_sdm_tiny", PAIRS["sd_tiny"]),
    ],
)
def test_the_rule_pairs_a_stage_before_a_gap_with_the_last_stage_of_the_gap(cut, expected):
    assert pairs_on_sd(cut, rule="next") == expected


def test_pairs_chosen_by_hand_replace_that_of_the_rule():
    """BK-SDM-Tiny's own choice for its innermost stage (Kim et al., 2023), with None for what the rule would compare."""
    by_hand = {"down_blocks.2": None, LAST_ATTENTION[0]: LAST_ATTENTION[1]}
    assert pairs_on_sd("bk_sdm_tiny", pairs=by_hand) == PAIRS["bk_sdm_tiny"]


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_student_takes_a_step_and_loads_in_diffusers(name, tmp_path):
    """Every loss is finite and reaches every parameter that is trained; what is saved is the same student."""
    config = load_config(name)
    distiller = MODELS.build(config.model)
    student = distiller.student
    assert student.num_parameters() == plans.denoiser(plans.plan(name).config, type(student)).num_parameters()

    pictures = DATASETS.build(config.train_dataloader.dataset).__getitems__([0, 1, 2])
    losses = distiller(**default_collate(pictures))
    assert set(losses) >= {"loss_feature"} | ({"loss_output"} if distiller.method.predicts else set())
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    blocks = {split_stream(ours)[0] for ours, _ in recovering(distiller.pairs, distiller.layers)}
    for name, parameter in student.named_parameters():
        trained = distiller.method.predicts or name.startswith(tuple(f"{block}." for block in blocks))
        assert (parameter.grad is not None) == trained, name

    (folder,) = save_models(dict(student=student), tmp_path)
    loaded, report = type(student).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    inputs = rules_of(type(student)).inputs(student.config)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).sample, student.eval()(**inputs).sample)


def test_self_attention_inside_a_recomputed_block_gets_the_same_gradients():
    """KOALA's taps lie inside the layers that gradient checkpointing runs again."""
    config = load_config("koala_1b_shapes")
    config.model.losses = dict(feature=dict(type="FeatureKD"))
    pictures = default_collate(DATASETS.build(config.train_dataloader.dataset).__getitems__([0, 1]))
    gradients = []
    for checkpointing in (False, True):
        distiller = MODELS.build(dict(config.model, gradient_checkpointing=checkpointing)).train()
        torch.manual_seed(0)
        distiller(**pictures)["loss_feature"].backward()
        gradients.append({name: p.grad for name, p in distiller.student.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients)
