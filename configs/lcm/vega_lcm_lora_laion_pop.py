"""LCM-LoRA of the published Segmind Vega, for 2 to 8 steps: the kind of Segmind-VegaRT, 119 M parameters (model card).

These are the same layers as in the other LCM-LoRAs, with rank 128: that gives 119,562,240.
"""

_base_ = ["./sdxl_lcm_lora_laion_pop.py"]

model = dict(teacher=dict(checkpoint="segmind/Segmind-Vega"), student=dict(adapter=dict(r=128, lora_alpha=128)))
