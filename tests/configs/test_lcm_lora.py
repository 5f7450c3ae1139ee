"""LCM-LoRA's configs: their adapters have the sizes of the published ones."""

import pytest

from diffdistill.config.check import check_average, check_model
from diffdistill.config.read import load_config
from diffdistill.families.architectures import planning

SIZES = {  # counted; published: 67.5 M, 197 M, 105 M (arXiv:2311.05556) and 119 M (Segmind-VegaRT's model card)
    "sd_15_lcm_lora_laion_aesthetics": 67_252_224,
    "sdxl_lcm_lora_laion_pop": 196_751_360,
    "ssd_1b_lcm_lora_laion_pop": 104_902_656,
    "vega_lcm_lora_laion_pop": 119_562_240,
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_adapters_have_their_published_sizes(name, size):
    config = load_config(name)
    with planning():
        plan = check_model(config.model)
    check_average(config, plan)
    assert sum(tensor.numel() for tensor in plan.trained_state().values()) == size
    assert plan.student_sampling["guidance_scale"] == 1.0
