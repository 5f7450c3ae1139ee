"""DreamBooth by LoRA on SDXL-Turbo beside an assistant, which is then taken out: five photographs of one dog.

`mim train diffdistill sdxl_turbo_assistant_laion_pop.py` makes the assistant, once for all subjects. r 8, alpha 8 on the
attention of the UNet. 1 pair x 1 GPU = a picture of the dog and a class picture an update, 500 updates. Leaves `step499` for
`pipe.load_lora_weights`, sampled in Turbo's four steps. Not run here; its like on shapes is measured.
"""

_base_ = [
    "../_base_/models/ft_sdxl_turbo.py",
    "../_base_/adapters/lora_attention.py",
    "../_base_/datasets/dreambooth_dog_prior_512.py",
    "../_base_/schedules/lora_500.py",
    "../_base_/dreambooth_runtime.py",
]

model = dict(adapter=_base_.pop("adapter"), assistant="work_dirs/sdxl_turbo_assistant_laion_pop/step999")
