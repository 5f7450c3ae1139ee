"""DreamBooth of BK-SDM-Small by LoRA on UNet (r 16, alpha 27) and text encoder (r 16, alpha 17), 800 updates at 1e-4.

Ranks and alphas are those of peft's DreamBooth example. Prior preservation and batch as in bk_sdm_small_dreambooth_dog.py:
1 pair x 1 GPU = 1 instance and 1 class picture an update. Leaves `step799`.
"""

_base_ = [
    "../_base_/models/ft_bk_sdm_small.py",
    "../_base_/adapters/lora_attention.py",
    "../_base_/datasets/dreambooth_dog_prior_512.py",
    "../_base_/schedules/dreambooth_800.py",
    "../_base_/dreambooth_runtime.py",
]

model = dict(
    adapter=dict(_base_.pop("adapter"), r=16, lora_alpha=27),
    text_encoder_adapter=dict(
        type="LoraConfig", r=16, lora_alpha=17, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"]
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
