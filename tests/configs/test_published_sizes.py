"""The sizes of tests/helpers/published.py are those of the denoisers that the configs describe, at their true width.

No weights: everything is on the meta device.
"""

from collections import Counter

import plans
import published
import pytest
import torch

from diffdistill.config.check import check_average, check_model
from diffdistill.config.read import load_config
from diffdistill.families.architectures import load_architecture, planning
from diffdistill.students.size import measure

STUDENTS = plans.students()
ARCHITECTURES = {name: name for name in ("sd_1", "sdxl", "ssd_1b", "vega", "sd_3_medium", "sd_35_medium", "sd_35_large")}
ARCHITECTURES |= {name: name for name in ("flux_dev", "flux_schnell", "pixart_sigma", "qwen_image")}
ARCHITECTURES |= {name: name for name in ("sana_06", "sana_16", "sana_15_16", "sana_15_48")}
ARCHITECTURES |= dict(sd_2_base="sd_2", sd_2_v="sd_2", pixart_sigma_512="pixart_sigma")
EXAMPLES = {published.student_of(name): name for name in STUDENTS}
VEGA = "vega_distill_from_sdxl_pokemon_blip"


@pytest.mark.parametrize(("architecture", "name"), ARCHITECTURES.items())
def test_architecture_has_its_published_size(architecture, name):
    assert plans.denoiser(plans.denoiser_config(architecture)).num_parameters() == published.PARAMETERS[name]


def test_the_published_students_are_all_there():
    assert {*EXAMPLES, *ARCHITECTURES.values()} == set(published.PARAMETERS)


@pytest.mark.parametrize("name", STUDENTS)
def test_student_has_its_published_size(name):
    found = plans.plan(name)
    teacher, kind = published.TEACHERS[found.family.checkpoint.name], found.family.denoiser_class
    assert plans.denoiser(found.config, kind).num_parameters() == published.PARAMETERS[published.student_of(name)]
    assert plans.denoiser(found.family.denoiser_config, kind).num_parameters() == published.PARAMETERS[teacher]


@pytest.mark.parametrize("name", published.GMACS)
def test_operations_of_published_denoisers(name):
    config = plans.plan(EXAMPLES[name]).config if name in EXAMPLES else plans.denoiser_config(name)
    figures, _ = measure(plans.denoiser(config))
    assert (round(figures["gmacs"]), round(figures["gmacs_without_attention"])) == published.GMACS[name]


def test_vega_has_its_published_parts():
    unet = plans.denoiser(plans.plan(VEGA).config)
    parts = Counter()
    for name, parameter in unet.named_parameters():
        parts[name.split(".")[0]] += parameter.numel()
    assert [parts[part] for part in ("down_blocks", "mid_block", "up_blocks")] == [246_838_080, 31_138_560, 459_928_960]


@pytest.mark.parametrize(
    ("name", "layers", "reverse", "tensors"),
    [
        ("ssd_1b", [1, [2, 2], [4, 4]], [[4, 4, 10], [2, 1, 1], 1], 944),
        ("vega", [1, [1, 1], [2, 2]], [[2, 2, 2], [1, 1, 1], 1], 564),
    ],
)
def test_student_loads_segminds_weights(name, layers, reverse, tensors):
    """Its tensors have the names and shapes of the model that the config of segmind/SSD-1B (or Segmind-Vega) builds."""
    config = dict(
        load_architecture("sdxl")["unet/config.json"],
        transformer_layers_per_block=layers,
        reverse_transformer_layers_per_block=reverse,
        mid_block_type="UNetMidBlock2D",
    )
    ours = shapes(plans.plan(f"{name}_distill_from_sdxl_pokemon_blip").config)
    assert len(ours) == tensors
    assert ours == shapes(config)


def test_every_tensor_of_vega_has_its_source_in_ssd_1b():
    """Under the name that it has in SDXL: SDXL -> SSD-1B -> Vega gives the Vega that SDXL gives."""
    found = plans.plan("vega_distill_from_ssd_1b_pokemon_blip")
    source, student = shapes(found.family.denoiser_config), shapes(found.config)
    assert all(source[found.layers.to_teacher(name)] == shape for name, shape in student.items())
    assert student == shapes(plans.plan(VEGA).config)


def shapes(config: dict) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in plans.denoiser(config).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "size"),
    [  # counted; published: 67.5 M, 197 M, 105 M (arXiv:2311.05556) and 119 M (Segmind-VegaRT's model card)
        ("sd_15_lcm_lora_laion_aesthetics", 67_252_224),
        ("sdxl_lcm_lora_laion_pop", 196_751_360),
        ("ssd_1b_lcm_lora_laion_pop", 104_902_656),
        ("vega_lcm_lora_laion_pop", 119_562_240),
        ("sdxl_pcm_lora_laion_pop", 196_751_360),  # the same adapter
    ],
)
def test_lcm_loras_have_their_published_sizes(name, size):
    config = load_config(name)
    with planning():
        plan = check_model(config.model)
    check_average(config, plan)
    assert sum(tensor.numel() for tensor in plan.trained_state().values()) == size
    assert plan.student_sampling["guidance_scale"] == 1.0
