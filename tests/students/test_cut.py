"""A student is data: what keep lists mean, and that the student made from one is the teacher's, layer by layer."""

import random

import diffusers
import mmengine
import pytest
import tiny
import torch

from diffdistill.errors import InputError
from diffdistill.students.cut import (
    LayerMap,
    build,
    module_lists,
    plan_student,
    resolve_keep,
)
from diffdistill.students.denoisers import rules_of
from diffdistill.students.weights import find_sources, make_student

UNet = diffusers.UNet2DConditionModel
SSD_1B = {
    "down_blocks.2.attentions.*.transformer_blocks": [0, 1, 2, 3],
    "mid_block.attentions": [],
    "mid_block.resnets": [0],
    "up_blocks.0.attentions.[01].transformer_blocks": [0, 1, 2, 3],
    "up_blocks.1.attentions.[12].transformer_blocks": [0],
}
ONE_LAYER = {
    "down_blocks.*.resnets": [0],
    "down_blocks.*.attentions": [1],
    "up_blocks.*.resnets": [0, 2],
    "up_blocks.*.attentions": [0, 2],
}
BK_TINY = ONE_LAYER | {"mid_block.*": [], "down_blocks": [0, 1, 2], "up_blocks": [1, 2, 3]}
# Depths that differ within a stage, and layers from the middle of a list.
UNEVEN = {
    "down_blocks.2.attentions.0.transformer_blocks": [3, 5, 9],
    "up_blocks.1.attentions.1.transformer_blocks": [1],
    "down_blocks.1.attentions": [],
    "mid_block.*": [],
}


@pytest.fixture(scope="module")
def sdxl():
    torch.manual_seed(0)
    return tiny.sdxl_unet()


@pytest.fixture(scope="module")
def sd():
    torch.manual_seed(0)
    return tiny.sd_unet()


@pytest.fixture(params=["sdxl", "sd"])
def teacher(request):
    return request.getfixturevalue(request.param)


STUDENTS = [
    ("sdxl", SSD_1B),
    ("sdxl", ONE_LAYER),
    ("sdxl", UNEVEN),
    ("sd", BK_TINY),
    ("sd", {"up_blocks.2.attentions": []}),
]


def output(denoiser, seed=0):
    """The denoiser's prediction for random inputs."""
    torch.manual_seed(seed)
    inputs = rules_of(UNet).inputs(denoiser.config)
    extra = inputs.pop("added_cond_kwargs", None)
    inputs = {name: torch.randn_like(x) if x.is_floating_point() else x + 300 for name, x in inputs.items()}
    if extra:
        inputs["added_cond_kwargs"] = {name: torch.rand_like(x) for name, x in extra.items()}
    with torch.no_grad():
        return denoiser.eval()(**inputs).sample


def same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


# What a student is


@pytest.mark.parametrize("keep", [{}, {"down_blocks.*.resnets": [0, 1]}, {"mid_block.resnets": None}])
def test_keeping_every_layer_changes_nothing(teacher, keep):
    student, _ = make_student(teacher, keep)
    same(output(student), output(teacher))
    assert student.state_dict().keys() == teacher.state_dict().keys()


@pytest.mark.parametrize(("teacher", "keep"), STUDENTS, indirect=["teacher"])
def test_plain_diffusers_rebuilds_the_student(teacher, keep, tmp_path):
    """From its config alone, and from a saved folder, with no tensor missing, none left over, and no other prediction."""
    student, _ = make_student(teacher, keep)
    from_config = UNet.from_config(student.config)
    from_config.load_state_dict(student.state_dict(), strict=True)
    student.save_pretrained(tmp_path)
    from_folder, info = UNet.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert len(student.state_dict()) < len(teacher.state_dict())
    expected = output(student)
    same(output(from_config), expected)
    same(from_folder.state_dict(), student.state_dict())
    # Read from a file, weights lie elsewhere in memory, which is why the kernels round differently.
    torch.testing.assert_close(output(from_folder), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("teacher", "keep"), STUDENTS, indirect=["teacher"])
def test_every_weight_is_its_teachers(teacher, keep):
    student, layers = make_student(teacher, keep)
    source = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        same(tensor, source[layers.to_teacher(name)])
        assert layers.to_student(layers.to_teacher(name)) == name
        assert tensor.data_ptr() != source[layers.to_teacher(name)].data_ptr(), "training would change the teacher"
    kept = {layers.to_teacher(name) for name in student.state_dict()}
    # Only the samplers at the ends of the stages come and go with the stages, whatever is kept of their lists.
    assert {name for name in source if layers.to_student(name) and "samplers" not in name} <= kept


def test_names_follow_the_stages_and_layers_that_are_kept(sd):
    _, layers = make_student(sd, BK_TINY)
    assert layers.to_teacher("up_blocks.0.attentions.1.proj_in.weight") == "up_blocks.1.attentions.2.proj_in.weight"
    assert layers.to_teacher("down_blocks.2.attentions.0") == "down_blocks.2.attentions.1"
    assert layers.to_student("up_blocks.3.resnets.2.conv1.bias") == "up_blocks.2.resnets.1.conv1.bias"
    assert layers.to_student("up_blocks.0.resnets.0") is None
    assert layers.to_student("down_blocks.0.attentions.0.norm.weight") is None
    assert layers.to_teacher("time_embedding.linear_1.weight") == "time_embedding.linear_1.weight"


def test_the_student_has_the_teachers_dtype(sd):
    half = tiny.sd_unet().to(torch.bfloat16)
    assert {tensor.dtype for tensor in make_student(half, BK_TINY)[0].state_dict().values()} == {torch.bfloat16}


def test_only_what_is_declared_fresh_starts_from_random_weights(sd):
    pattern = "up_blocks.*.attentions.0.proj_out.weight"
    torch.manual_seed(1)
    student, layers = make_student(sd, BK_TINY, fresh=[pattern])
    source = sd.state_dict()
    differ = {name for name, tensor in student.state_dict().items() if not tensor.equal(source[layers.to_teacher(name)])}
    assert differ == {f"up_blocks.{stage}.attentions.0.proj_out.weight" for stage in range(3)}
    assert not any(tensor.is_meta for tensor in student.state_dict().values())


def test_a_fresh_pattern_that_matches_nothing_is_refused(sd):
    with pytest.raises(InputError, match=r"student\.fresh: 'conv_inn\.weight' matches no tensor .* conv_in\.weight"):
        make_student(sd, BK_TINY, fresh=["conv_inn.weight"])


def test_a_tensor_without_a_source_of_its_shape_must_be_declared_fresh(sd):
    """The last layer of an up stage takes the skip connection of the stage above it, so it cannot be a middle one."""
    keep = ONE_LAYER | {"up_blocks.*.resnets": [0, 1], "up_blocks.*.attentions": [0, 1]}
    with pytest.raises(InputError, match=r"up_blocks\.1\.resnets\.1\.\S+ \(.*\) has no source of its shape in the teacher"):
        make_student(sd, keep)
    fresh = ["up_blocks.*.resnets.1.norm1.*", "up_blocks.*.resnets.1.conv*.weight", "up_blocks.*.resnets.1.conv_shortcut.*"]
    assert output(make_student(sd, keep, fresh)[0]).isfinite().all()


def test_the_config_on_disk_may_have_other_keys_than_the_class(sdxl):
    """EMAModel of diffusers adds its own, and what has a default may be left out; diffusers loads both."""
    published = {key: value for key, value in sdxl.config.items() if not key.startswith("_")}
    short = {key: value for key, value in published.items() if key not in ("in_channels", "only_cross_attention")}
    plans = [plan_student(UNet, config, SSD_1B)[0] for config in (published, short | {"decay": 0.999, "_name": "x"})]
    assert plans[0] == plans[1]
    assert "decay" not in build(UNet, plans[1] | {"decay": 0.999}).config


# What a keep list means


def kept(keep, lengths=None):
    return resolve_keep(lengths or {"down.0.layers": 3, "down.1.layers": 3, "up.0.layers": 3, "up.0.norms": 2}, keep).kept


def test_lists_that_no_pattern_names_stay_whole():
    assert kept({"up.*.norms": [1]}) == {
        "down.0.layers": [0, 1, 2],
        "down.1.layers": [0, 1, 2],
        "up.0.layers": [0, 1, 2],
        "up.0.norms": [1],
    }


def test_the_pattern_that_matches_fewer_lists_wins():
    keep = {"down.1.layers": [2], "*.*.layers": [0], "down.*.layers": [1]}
    expected = [[1], [2], [0], [0, 1]]
    assert list(kept(keep).values()) == expected
    assert list(kept(dict(reversed(keep.items()))).values()) == expected


def test_the_order_of_entries_means_nothing(sdxl):
    keep = SSD_1B | {"*_blocks.*.attentions.*.transformer_blocks": [0], "mid_block.*": []}
    expected, layers = plan_student(UNet, sdxl.config, keep)
    for seed in range(3):
        shuffled = dict(random.Random(seed).sample(sorted(keep.items()), len(keep)))
        config, other = plan_student(UNet, sdxl.config, shuffled)
        assert (config, other.kept) == (expected, layers.kept)


def test_a_dumped_config_rebuilds_the_same_student(sdxl, tmp_path):
    """`Config.dump` sorts keys, so a rule such as "later wins" would give another student."""
    keep = {"up_blocks.*.attentions.*.transformer_blocks": [0], "*_blocks.*.attentions.*.transformer_blocks": [0]}
    keep |= {"up_blocks.0.attentions.2.transformer_blocks": [0, 9], "mid_block.attentions": [], "mid_block.resnets": [1]}
    config = mmengine.Config(dict(model=dict(student=dict(keep=keep))))
    config.dump(tmp_path / "config.py")
    again = mmengine.Config.fromfile(tmp_path / "config.py").model.student.keep
    assert list(again) != list(keep)
    assert dict(again) == keep
    student, layers = make_student(sdxl, keep)
    other, other_layers = make_student(sdxl, again)
    assert other_layers.kept == layers.kept
    assert dict(other.config) == dict(student.config)
    same(output(other), output(student))


def test_none_drops_an_entry():
    assert kept({"down.1.layers": None, "down.*.layers": [1]}) == kept({"down.*.layers": [1]})


def test_a_star_does_not_reach_across_a_dot():
    lengths = {"a.0.layers": 2, "a.0.b.0.layers": 2}
    assert kept({"a.*.layers": [0]}, lengths) == {"a.0.layers": [0], "a.0.b.0.layers": [0, 1]}


def test_patterns_that_agree_are_no_tie():
    lengths = {"a.0.x": 3, "a.1.x": 3}
    assert kept({"a.0.*": [1], "*.0.x": [1]}, lengths)["a.0.x"] == [1]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"down.*.layer": [0]}, r"keep\['down\.\*\.layer'\] matches no list of layers.* e\.g\. .*down\.0\.layers"),
        ({"down.*.layers": [0, 3]}, r"keep\['down\.\*\.layers'\] = \[0, 3\]: down\.0\.layers has layers 0 to 2"),
        ({"up.0.norms": [-1]}, r"keep\['up\.0\.norms'\] = \[-1\]: up\.0\.norms has layers 0 to 1"),
        ({"down.0.layers": [1, 0]}, "rising order"),
        ({"down.0.layers": [1, 1]}, "rising order"),
        ({"down.0.layers": 1}, r"keep\['down\.0\.layers'\] = 1"),
        (
            {"*.0.layers": [0], "down.*.layers": [1]},
            r"'\*\.0\.layers' and 'down\.\*\.layers' disagree about down\.0",
        ),
    ],
)
def test_a_keep_list_that_cannot_be_meant_is_refused(keep, message):
    with pytest.raises(InputError, match=message):
        kept(keep)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (
            {"up_blocks": [0, 1]},
            r"up_blocks \[0, 1\] do not mirror down_blocks \[0, 1, 2\]; .* needs up_blocks \[0, 1, 2\]",
        ),
        ({"down_blocks": [0, 1]}, r"needs up_blocks \[1, 2\]"),
        ({"down_blocks": [], "up_blocks": []}, "down_blocks keeps no stage"),
        ({"down_blocks.0.resnets": []}, r"keeps \[0, 1, 2\] of up_blocks\.2\.resnets .*nearest has 1 layers"),
        ({"down_blocks.0.resnets": [0]}, r"keeps \[0, 1, 2\] of up_blocks\.2\.resnets .*nearest has 2 layers"),
        ({"down_blocks.1.attentions": [0]}, r"keeps \[0\] of down_blocks\.1\.attentions .*nearest has 2 layers"),
        ({"mid_block.resnets": [0]}, r"keeps \[0\] of mid_block\.resnets .*nearest has 2 layers"),
        ({"mid_block.attentions": []}, r"keeps \[0, 1\] of mid_block\.resnets .*nearest has 1 layers"),
        ({"mid_block.resnets": []}, r"keeps \[0\] of mid_block\.attentions .*nearest has 0 layers"),
        (
            {"mid_block.attentions.0.transformer_blocks": [0]},
            r"keeps \[0\] of mid_block\.attentions\.0.*has 10 layers",
        ),
        ({"down_blocks.2.attentions.*.transformer_blocks": [0]}, r"keeps \[.*9\] of mid_block.*nearest has 1 layers"),
    ],
)
def test_a_student_that_no_config_describes_is_refused(sdxl, keep, message):
    with pytest.raises(InputError, match=message):
        plan_student(UNet, sdxl.config, keep)


def test_a_denoiser_without_rules_is_refused():
    with pytest.raises(InputError, match=r"no rules for a AutoencoderKL; known denoisers: .*UNet2DConditionModel"):
        plan_student(diffusers.AutoencoderKL, {}, {})


def test_a_list_that_only_the_student_has_keeps_its_numbers():
    assert LayerMap({"a": [2]}).to_teacher("a.1.weight") == "a.1.weight"


@pytest.mark.parametrize("seed", range(5))
def test_without_attention_in_the_mid_block_any_transformer_depths_go_together(sdxl, seed):
    rng, lengths = random.Random(seed), module_lists(sdxl)
    keep = {"mid_block.resnets": [0], "mid_block.attentions": []}
    for path in rng.sample([path for path in lengths if path.endswith("transformer_blocks")], 5):
        keep[path] = sorted(rng.sample(range(lengths[path]), rng.randint(1, lengths[path])))
    config, layers = plan_student(UNet, sdxl.config, keep)
    assert {path: layers.kept[path] for path in keep} == keep
    with torch.device("meta"):
        student = UNet.from_config(config).state_dict()
    assert len(find_sources(student, sdxl.state_dict(), layers)) == len(student) < len(sdxl.state_dict())
