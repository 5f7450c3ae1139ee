"""LCM-LoRA of the published SSD-1B, for 2 to 8 steps (Luo et al., 2023, arXiv:2311.05556): 105 M parameters, rank 64."""

_base_ = ["./sdxl_lcm_lora_laion_pop.py"]

model = dict(teacher=dict(checkpoint="segmind/SSD-1B"))
