"""Every part of a config is checked, also one that no list names."""

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS as MMENGINE_HOOKS

from diffdistill.config.parts import check_parts, entries, walk
from diffdistill.errors import InputError
from diffdistill.registry import METRICS, MODELS


@METRICS.register_module()
class Outer:
    def __init__(self, inner: dict, others: list = ()): ...


@METRICS.register_module()
class Inner:
    def __init__(self, size: int = 1): ...


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (dict(type="Inner", sise=2), r"val_evaluator.inner.sise is not a key of the config; the nearest: size"),
        (dict(type="Iner"), r"val_evaluator.inner.type='Iner' is unknown; the nearest: Inner"),
        (dict(type=Inner, others=dict(type="Nothing")), r"val_evaluator.inner.others is not a key"),
        (dict(type="TaskLoss"), r"val_evaluator.inner.type='TaskLoss' is unknown"),
    ],
)
def test_a_part_inside_a_part_that_nobody_listed(inner, message):
    check_parts(Config(dict(val_evaluator=dict(type="Outer", inner=dict(type="Inner", size=3)))))
    with pytest.raises(InputError, match=message):
        check_parts(Config(dict(val_evaluator=dict(type="Outer", inner=inner))))


def test_a_section_that_a_user_has_added():
    check_parts(Config(dict(mine=dict(deep=[dict(type="Inner", size=2)]))))
    with pytest.raises(InputError, match=r"mine.deep.0.sise is not a key"):
        check_parts(Config(dict(mine=dict(deep=[dict(type="Inner", sise=2)]))))


def test_what_a_part_needs_is_named():
    with pytest.raises(InputError, match=r"val_evaluator.inner is missing; Outer needs it"):
        check_parts(Config(dict(val_evaluator=dict(type="Outer"))))


def test_a_scheduler_of_diffusers_is_a_part_too():
    model = dict(type="Distiller", teacher=dict(type="StableDiffusion", checkpoint="a"), losses={})
    sampling = dict(scheduler=dict(type="DDIMScheduler", timestep_spacing="trailing"))
    check_parts(Config(dict(model=dict(model, sampling=sampling))))
    sampling["scheduler"]["timestep_spasing"] = sampling["scheduler"].pop("timestep_spacing")
    with pytest.raises(InputError, match=r"model.sampling.scheduler.timestep_spasing .* nearest: timestep_spacing"):
        check_parts(Config(dict(model=dict(model, sampling=sampling))))


def test_parts_of_every_depth_are_walked():
    content = dict(type="a", b=[dict(type="c", d=dict(e=dict(type="f")))], g=1)
    assert [where for where, _ in walk(content, "x")] == ["x", "x.b.0", "x.b.0.d.e"]
    assert dict(entries(dict(a=dict(type="b"), c=None), "hooks")) == {"hooks.a": dict(type="b")}
    assert dict(entries(dict(type="b"), "hooks")) == {"hooks": dict(type="b")}


def test_the_registries_are_searched_from_ours_to_mmengines():
    assert MODELS.get("TaskLoss")
    assert MMENGINE_HOOKS.get("CheckpointHook")
    check_parts(Config(dict(default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=1)))))
