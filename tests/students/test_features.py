"""Feature pairs and their recording, on tiny denoisers; the published pairs are in test_published_sizes.py."""

import gc
import weakref

import diffusers
import pytest
import tiny
import torch
from torch import nn

from diffdistill.errors import InputError
from diffdistill.students.cut import LayerMap, build_on_meta, plan_student
from diffdistill.students.features import FeatureTaps, derive_pairs, feature_of, pair_layers, trace
from diffdistill.students.size import measure

UNet = diffusers.UNet2DConditionModel
SHALLOW = {
    "mid_block.attentions": [],
    "mid_block.resnets": [0],
    "*_blocks.*.attentions.*.transformer_blocks": [0],
}


@pytest.fixture(scope="module")
def teacher():
    return tiny.sdxl_unet().config


def pairs_of(teacher, **options):
    config, layers = plan_student(UNet, teacher, SHALLOW)
    return derive_pairs(UNet, config, teacher, layers, **options)


# Recording


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))


def test_taps_record_inside_the_block_only():
    net, x = Net(), torch.ones(1, 2)
    taps = FeatureTaps(net, ["0", "2"])
    with taps.record() as features:
        assert features == {}
        output = net(x)
    torch.testing.assert_close(features, {"0": net[0](x), "2": output})
    recorded = features["0"]
    net(x + 1)
    assert features["0"] is recorded
    assert not any(module._forward_hooks for module in net.modules())


def test_taps_leave_no_hook_behind_after_an_error():
    net = Net()
    with pytest.raises(RuntimeError, match="shape"), FeatureTaps(net, ["0", "1"]).record():
        net(torch.ones(1, 3))
    assert not any(module._forward_hooks for module in net.modules())


def test_taps_keep_no_feature():
    net = Net()
    taps = FeatureTaps(net, ["0"])
    with taps.record() as features:
        net(torch.ones(1, 2))
    alive = weakref.ref(features["0"])
    del features
    gc.collect()
    assert alive() is None
    assert taps.modules


def test_recomputation_in_backward_records_nothing():
    net, x = Net(), torch.ones(1, 2, requires_grad=True)
    with FeatureTaps(net, ["0"]).record() as features:
        output = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)
    recorded = features["0"]
    (output.sum() + recorded.sum()).backward()
    assert features["0"] is recorded
    assert net[0].weight.grad.abs().sum() > 0


def test_the_feature_of_a_layer_is_the_feature_of_of_its_output():
    x = torch.ones(1)
    for output in (
        x,
        (x, torch.zeros(1)),
        [x],
        {"sample": x},
        diffusers.models.unets.unet_2d_condition.UNet2DConditionOutput(x),
    ):
        assert feature_of(output) is x
    assert feature_of(()) is None
    assert feature_of("text") is None


# Pairs


def test_trace_gives_shapes_in_the_order_in_which_layers_finish(teacher):
    shapes = trace(UNet, teacher)
    names = [name for name in shapes if name.count(".") == 1 or name == "mid_block"]
    assert [name for name in names if "block" in name] == [
        *(f"down_blocks.{i}" for i in range(3)),
        "mid_block",
        *(f"up_blocks.{i}" for i in range(3)),
    ]
    assert shapes["conv_in"] == (1, 8, 16, 16)
    assert shapes["mid_block"] == (1, 32, 4, 4)
    assert shapes["down_blocks.1.attentions.0.transformer_blocks.1"] == (1, 64, 16)
    assert trace(UNet, teacher, size=32)["mid_block"] == (1, 32, 8, 8)


def test_one_pass_gives_shapes_and_operations(teacher, monkeypatch):
    """Of a large denoiser it takes a second or two, which a run would otherwise wait for twice."""
    config = dict(teacher, norm_eps=3e-5)  # which no other test has
    trace(UNet, config)
    monkeypatch.setattr(UNet, "forward", lambda *args, **options: pytest.fail("another pass"))
    figures, elements = measure(build_on_meta(UNet, config), ["mid_block"])
    assert figures["gmacs"] > figures["gmacs_without_attention"] > 0
    assert elements == 32 * 4 * 4


def test_rule_same_pairs_each_layer_with_its_source_and_next_with_what_its_successor_saw(teacher):
    same, following = (pairs_of(teacher, level="layers", rule=rule) for rule in ("same", "next"))
    assert all(ours == theirs for ours, theirs in same)
    assert [(a, b) for a, b in following if (a, b) not in same] == [("mid_block.resnets.0", "mid_block.resnets.1")]
    assert len(same) == len(following) == 26


def test_patterns_choose_layers(teacher):
    pattern = "down_blocks.*.attentions.*.transformer_blocks.*.attn1"
    layers = [f"down_blocks.{i}.attentions.{j}.transformer_blocks.0.attn1" for i in (1, 2) for j in (0, 1)]
    assert pairs_of(teacher, level=pattern, rule="same") == list(zip(layers, layers, strict=True))
    # Between two kept layers lie those that are gone: the last of them is what the next one saw.
    deep = [layer.replace("blocks.0.attn1", f"blocks.{9 if 'blocks.2.' in layer else 1}.attn1") for layer in layers]
    assert pairs_of(teacher, level=[pattern], rule="next") == list(zip(layers, deep, strict=True))


def test_pairs_by_hand_replace_add_and_remove(teacher):
    by_hand = {"mid_block": None, "up_blocks.2": "up_blocks.2.resnets.2", "conv_in": "conv_in"}
    assert pairs_of(teacher, level="blocks", pairs=by_hand) == [
        ("conv_in", "conv_in"),
        ("down_blocks.0", "down_blocks.0"),
        ("down_blocks.1", "down_blocks.1"),
        ("down_blocks.2", "down_blocks.2"),
        ("up_blocks.0", "up_blocks.0"),
        ("up_blocks.1", "up_blocks.1"),
        ("up_blocks.2", "up_blocks.2.resnets.2"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(rule="last"), "feature_pairs.rule 'last' is unknown; expected 'same' or 'next'"),
        (dict(level="down_block.*"), r"feature_pairs.level \['down_block\.\*'\] matches no layer of the student"),
        (dict(pairs={"conv_out": "conv_oot"}), "the teacher has no layer 'conv_oot'.*conv_out"),
        (dict(pairs={"mid_block.resnets.1": "mid_block.resnets.1"}), r"the student has no layer 'mid_block\.resnets\.1'"),
        (
            dict(pairs={"conv_in": "down_blocks.0"}),
            r"conv_in \(1, 8, 16, 16\) and the teacher's down_blocks\.0 \(1, 8, 8, 8\) differ in shape",
        ),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(teacher, options, message):
    with pytest.raises(InputError, match=message):
        pairs_of(teacher, **options)


def test_pairs_follow_the_order_in_which_the_student_runs():
    shapes = {"b": (1,), "a": (1,), "c": (1,)}
    pairs = pair_layers(shapes, shapes, LayerMap({}), ["?"], pairs={"b": None})
    assert pairs == [("a", "a"), ("c", "c")]
