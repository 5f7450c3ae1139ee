"""Figures of published denoisers, and of students of our own with half the depth.

test_published_sizes.py in tests/configs counts each of them; other tests read them.
"""

PARAMETERS = {
    "sd_1": 859_520_964,
    "sd_2": 865_910_724,
    "sdxl": 2_567_463_684,
    "bk_sdm_base": 579_384_964,
    "bk_sdm_small": 482_346_884,
    "bk_sdm_tiny": 323_384_964,
    "bk_sdm_v2_base": 583_480_964,
    "bk_sdm_v2_small": 485_787_524,
    "bk_sdm_v2_tiny": 326_825_604,
    "small_sd_xl": 1_717_277_764,
    "tiny_sd_xl": 1_304_160_324,
    "ssd_1b": 1_331_334_404,
    "vega": 745_225_604,
    "koala_1b": 1_161_184_324,
    "koala_700m": 782_822_724,
    "sd_3_medium": 2_028_328_000,
    "sd_3_medium_12": 1_008_559_168,
    "sd_35_medium": 2_243_171_520,
    "sd_35_medium_12": 1_107_717_952,
    "sd_35_large": 8_056_627_520,
    "sd_35_large_19": 4_009_633_600,
    "flux_dev": 11_901_408_320,
    "flux_lite": 8_163_264_064,
    "flux_mini": 3_179_199_552,
    "flux_schnell": 11_891_178_560,
    "flux_schnell_lite": 8_153_034_304,
    "pixart_sigma": 610_856_096,
    "pixart_sigma_14": 313_278_368,
    "sana_06": 591_747_872,
    "sana_16": 1_604_462_752,
    "sana_16_10": 825_256_352,
    "sana_15_16": 1_604_641_952,
    "sana_15_48": 4_721_825_952,
    "sana_15_40": 3_163_233_952,
    "sana_15_30": 2_383_937_952,
    "sana_15_20": 1_604_641_952,
    "qwen_image": 20_430_401_088,
    "qwen_image_35": 11_934_618_688,
}
PARAMETERS["sd_small"] = PARAMETERS["bk_sdm_base"]
PARAMETERS["sd_tiny"] = PARAMETERS["bk_sdm_tiny"]

# Of one call at the native resolution, and without the products of attention. Counted once with another tool chain; without
# the attention products they are the papers' figures.
GMACS = {
    "sd_1": (402, 339),
    "sdxl": (3381, 2989),
    "bk_sdm_base": (262, 224),
    "bk_sdm_small": (255, 218),
    "bk_sdm_tiny": (243, 205),
    "small_sd_xl": (2252, 2005),
    "tiny_sd_xl": (1853, 1635),
    "ssd_1b": (2104, 1854),
    "vega": (1411, 1273),
    "koala_1b": (1716, 1515),
    "koala_700m": (1351, 1176),
}
GMACS["sd_tiny"] = GMACS["bk_sdm_tiny"]

# Which denoiser a teacher's hub name has.
TEACHERS = {
    "CompVis/stable-diffusion-v1-4": "sd_1",
    "SG161222/Realistic_Vision_V4.0": "sd_1",
    "stabilityai/stable-diffusion-2-1-base": "sd_2",
    "stabilityai/stable-diffusion-2-1": "sd_2",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "stabilityai/sdxl-turbo": "sdxl",
    "ByteDance/SDXL-Lightning": "sdxl",
    "segmind/SSD-1B": "ssd_1b",
    "stabilityai/stable-diffusion-3-medium-diffusers": "sd_3_medium",
    "stabilityai/stable-diffusion-3.5-medium": "sd_35_medium",
    "stabilityai/stable-diffusion-3.5-large": "sd_35_large",
    "black-forest-labs/FLUX.1-dev": "flux_dev",
    "black-forest-labs/FLUX.1-schnell": "flux_schnell",
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": "pixart_sigma",
    "Efficient-Large-Model/Sana_1600M_1024px_diffusers": "sana_16",
    "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers": "sana_15_48",
    "Qwen/Qwen-Image": "qwen_image",
}


def student_of(config: str) -> str:
    """The published student that the config of this name trains: the longest name that it begins with."""
    matches = [student for student in PARAMETERS if config.startswith(student)]
    assert matches, f"{config}: give its student a row in tests/helpers/published.py"
    return max(matches, key=len)
