"""Published students, at their true width: only the keep lists below, no weights (everything is on the meta device)."""

import itertools
import runpy
from pathlib import Path

import diffusers
import pytest

from diffdistill.students.cut import build_on_meta, plan_student
from diffdistill.students.features import derive_pairs

UNet = diffusers.UNet2DConditionModel
SSD_1B_CONFIG = Path(__file__).parents[2] / "configs" / "_base_" / "models" / "ssd_1b.py"

# The public configs of the teachers, without what has its default.
SD = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
SD_2 = dict(sample_size=64, cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True)
SDXL = dict(
    sample_size=128,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    block_out_channels=[320, 640, 1280],
    transformer_layers_per_block=[1, 2, 10],
    attention_head_dim=[5, 10, 20],
    cross_attention_dim=2048,
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)

ONE_LAYER = {
    "down_blocks.*.resnets": [0],
    "down_blocks.*.attentions": [0],
    "up_blocks.*.resnets": [0, 2],
    "up_blocks.*.attentions": [0, 2],
}
NO_MID = {"mid_block.resnets": [], "mid_block.attentions": []}
NO_INNERMOST_STAGE = {"down_blocks": [0, 1, 2], "up_blocks": [1, 2, 3]}
DEEP = ["down_blocks.2.attentions.*", "mid_block.attentions.*", "up_blocks.0.attentions.*"]

KEEP = {
    "teacher": {},
    "bk_sdm_base": ONE_LAYER,
    "bk_sdm_small": ONE_LAYER | NO_MID,
    "bk_sdm_tiny": ONE_LAYER | NO_MID | NO_INNERMOST_STAGE,
    "koala_1b": ONE_LAYER | {f"{block}.transformer_blocks": [0, 1, 2, 3, 4, 5] for block in DEEP},
    "koala_700m": ONE_LAYER | NO_MID | {f"{DEEP[i]}.transformer_blocks": [0, 1, 2, 3, 4] for i in (0, 2)},
    "ssd_1b": runpy.run_path(str(SSD_1B_CONFIG))["model"]["student"]["keep"],
    "vega": {
        "*_blocks.1.attentions.*.transformer_blocks": [0],
        "down_blocks.2.attentions.*.transformer_blocks": [0, 1],
        "mid_block.attentions": [],
        "mid_block.resnets": [0],
        "up_blocks.0.attentions.*.transformer_blocks": [0, 1],
    },
}


def plan(student, teacher):
    return plan_student(UNet, teacher, KEEP[student])


@pytest.mark.parametrize(
    ("student", "teacher", "parameters"),
    [
        ("teacher", SD, 859_520_964),
        ("bk_sdm_base", SD, 579_384_964),  # and Segmind's SD-Small
        ("bk_sdm_small", SD, 482_346_884),
        ("bk_sdm_tiny", SD, 323_384_964),  # and Segmind's SD-Tiny
        ("teacher", SD_2, 865_910_724),
        ("bk_sdm_base", SD_2, 583_480_964),
        ("bk_sdm_small", SD_2, 485_787_524),
        ("bk_sdm_tiny", SD_2, 326_825_604),
        ("teacher", SDXL, 2_567_463_684),
        ("bk_sdm_base", SDXL, 1_717_277_764),  # small_sd_xl
        ("bk_sdm_small", SDXL, 1_304_160_324),  # tiny_sd_xl
        ("koala_1b", SDXL, 1_161_184_324),
        ("koala_700m", SDXL, 782_822_724),
        ("ssd_1b", SDXL, 1_331_334_404),
        ("vega", SDXL, 745_225_604),
    ],
)
def test_student_has_its_published_size(student, teacher, parameters):
    config, _ = plan(student, teacher)
    assert count(build_on_meta(UNet, config)) == parameters


def test_vega_has_its_published_size_in_each_part():
    unet = build_on_meta(UNet, plan("vega", SDXL)[0])
    assert [count(part) for part in (unet.down_blocks, unet.mid_block, unet.up_blocks)] == [
        246_838_080,
        31_138_560,
        459_928_960,
    ]


@pytest.mark.parametrize(
    ("student", "layers", "reverse", "tensors"),
    [
        ("ssd_1b", [1, [2, 2], [4, 4]], [[4, 4, 10], [2, 1, 1], 1], 944),
        ("vega", [1, [1, 1], [2, 2]], [[2, 2, 2], [1, 1, 1], 1], 564),
    ],
)
def test_student_loads_segminds_weights(student, layers, reverse, tensors):
    """Its tensors have the names and shapes of the model that the config of segmind/SSD-1B (or Segmind-Vega) builds."""
    published = dict(
        SDXL,
        transformer_layers_per_block=layers,
        reverse_transformer_layers_per_block=reverse,
        mid_block_type="UNetMidBlock2D",
    )
    theirs, ours = (build_on_meta(UNet, config).state_dict() for config in (published, plan(student, SDXL)[0]))
    assert len(ours) == tensors
    assert shapes(ours) == shapes(theirs)


def test_feature_pairs_of_ssd_1b_are_segminds():
    """Every ResNet and attention that stays, with itself; the mid block's only ResNet learns from the teacher's last one."""
    config, layers = plan("ssd_1b", SDXL)
    pairs = derive_pairs(UNet, config, SDXL, layers, level="layers", rule="next")
    assert len(pairs) == 26
    assert [pair for pair in pairs if pair[0] != pair[1]] == [("mid_block.resnets.0", "mid_block.resnets.1")]
    kinds = [name.split(".")[-2] for name, _ in pairs]
    assert (kinds.count("resnets"), kinds.count("attentions")) == (16, 10)


def test_vega_chains_from_ssd_1b():
    """SDXL -> SSD-1B -> Vega: every tensor of Vega has its source in SSD-1B, under the name that it has in SDXL."""
    middle, _ = plan("ssd_1b", SDXL)
    from_ssd_1b, layers = plan_student(UNet, middle, KEEP["vega"])
    source, student = (shapes(build_on_meta(UNet, config).state_dict()) for config in (middle, from_ssd_1b))
    assert len(student) == 564
    assert all(source[layers.to_teacher(name)] == shape for name, shape in student.items())
    assert student == shapes(build_on_meta(UNet, plan("vega", SDXL)[0]).state_dict())


@pytest.mark.parametrize(
    ("student", "mid", "innermost"),
    [
        ("bk_sdm_base", [("mid_block", "mid_block")], True),  # as Segmind's SD-Small; BK-SDM leaves the mid block out
        ("bk_sdm_small", [], True),
        ("bk_sdm_tiny", [], False),
    ],
)
def test_block_pairs_of_bk_sdm(student, mid, innermost):
    """Stages learn from themselves, but a last stage before a gap from the last stage that the gap has swallowed."""
    config, layers = plan(student, SD)
    pairs = derive_pairs(UNet, config, SD, layers, level="blocks", rule="next")
    down, up = ([f"{side}_blocks.{i}" for i in range(4)] for side in ("down", "up"))
    if innermost:
        before_gap = [("down_blocks.3", "down_blocks.3" if mid else "mid_block")]
        expected = [*zip(down[:3], down[:3], strict=True), *before_gap, *mid, *zip(up, up, strict=True)]
    else:
        # Segmind's odd pair for SD-Tiny: its innermost stage hands its successor what the teacher's up_blocks.0 does.
        expected = [("down_blocks.0", "down_blocks.0"), ("down_blocks.1", "down_blocks.1"), ("down_blocks.2", "up_blocks.0")]
        expected += itertools.pairwise(up)
    assert pairs == expected


def test_a_pair_chosen_by_hand_replaces_that_of_the_rule():
    """BK-SDM-Tiny's own choice for its innermost stage (Kim et al., 2023)."""
    config, layers = plan("bk_sdm_tiny", SD)
    by_hand = {
        "down_blocks.2": None,
        "down_blocks.2.attentions.0.proj_out": "down_blocks.2.attentions.1.proj_out",
    }
    pairs = derive_pairs(UNet, config, SD, layers, level="blocks", pairs=by_hand)
    assert pairs == [
        ("down_blocks.0", "down_blocks.0"),
        ("down_blocks.1", "down_blocks.1"),
        ("down_blocks.2.attentions.0.proj_out", "down_blocks.2.attentions.1.proj_out"),
        ("up_blocks.0", "up_blocks.1"),
        ("up_blocks.1", "up_blocks.2"),
        ("up_blocks.2", "up_blocks.3"),
    ]


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shapes(weights: dict) -> dict[str, tuple]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
