"""Segmind Vega in two stages on Pokemon-BLIP captions: SDXL -> SSD-1B, which is then the teacher of Vega.

Sizes and losses: Gupta et al., 2024, arXiv:2401.02677. Each stage is the run of `vega_distill_from_sdxl_pokemon_blip.py`.
"""

_base_ = ["./vega_distill_from_sdxl_pokemon_blip.py"]

stages = [
    dict(
        name="ssd_1b",
        model=dict(
            student=dict(
                keep={
                    "down_blocks.1.attentions.*.transformer_blocks": [0, 1],
                    "down_blocks.2.attentions.*.transformer_blocks": [0, 1, 2, 3],
                    "up_blocks.0.attentions.*.transformer_blocks": [0, 1, 2, 3],
                    "up_blocks.0.attentions.2.transformer_blocks": list(range(10)),
                    "up_blocks.1.attentions.0.transformer_blocks": [0, 1],
                }
            )
        ),
    ),
    dict(name="vega", model=dict(teacher=dict(denoiser="previous"))),
]
