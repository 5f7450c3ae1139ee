"""DreamBooth of BK-SDM-Small, the whole UNet (Kim et al., 2023, arXiv:2305.15798, sec. 5: personalised generation).

800 updates at 1e-6, prior preservation with weight 1 and 200 class pictures that the pipeline makes first. The text encoder
stays as it is. 1 pair x 1 GPU = 1 instance and 1 class picture an update.
"""

_base_ = [
    "../_base_/models/ft_bk_sdm_small.py",
    "../_base_/datasets/dreambooth_dog_prior_512.py",
    "../_base_/schedules/dreambooth_800.py",
    "../_base_/dreambooth_runtime.py",
]
