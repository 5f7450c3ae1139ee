"""Figures of published denoisers. test_published_sizes.py in tests/configs counts each of them; other tests read them."""

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
}


def student_of(config: str) -> str:
    """The published student that the config of this name trains: the longest name that it begins with."""
    matches = [student for student in PARAMETERS if config.startswith(student)]
    assert matches, f"{config}: give its student a row in tests/helpers/published.py"
    return max(matches, key=len)
