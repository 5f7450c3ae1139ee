"""PCM of Stable Diffusion 1.5 in 4 phases, for 4 steps (Wang et al., 2024, arXiv:2405.18407): 67 M parameters, rank 64.

As the authors' script for SD 1.5 trains it without an adversarial loss: 5,000 updates of AdamW 5e-6, w in [4, 5] (scales in
[5, 6]), pseudo-Huber with c = 0.001. Ours: a grid of 40 times; their 50 are not divided by 4 phases.
20 pictures x 1 GPU = 20 pictures an update, 512 x 512.
"""

_base_ = [
    "../_base_/models/sd_15.py",
    "../_base_/methods/pcm_lora.py",
    "../_base_/datasets/laion_aesthetics_512.py",
    "../_base_/schedules/pcm_lora_5k.py",
    "../_base_/pcm_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

# Grids of the teacher are drawn with the scheduler of its checkpoint.
model = dict(
    method=dict(guidance_scale=[5.0, 6.0]),
    dtype="bfloat16",
    sampling=dict(_delete_=True, num_inference_steps=25, guidance_scale=7.5),
)
train_dataloader = dict(batch_size=20)
