"""TencentARC's flux-mini: 5 of FLUX.1's 19 double blocks, 10 of its 38 single ones; 3.18 B of 11.90 B parameters.

Blocks and pairs are those of the authors' train_configs/distill.yaml (github.com/TencentARC/FluxKits). Double blocks learn
what the teacher makes of both streams by the end of their share of its depth, single ones what the same block hands on. (The
authors' script never reads `distill_target_double`: it compares the double blocks with 0, 1, 2, 10 and 18.)
"""

cut = dict(
    student=dict(
        keep={
            "transformer_blocks": [0, 1, 2, 10, 18],
            "single_transformer_blocks": [3, 7, 11, 15, 19, 23, 27, 31, 35, 37],
        }
    ),
    feature_pairs=dict(
        level=[
            "transformer_blocks.*",
            "transformer_blocks.*:text",
            "single_transformer_blocks.*",
            "single_transformer_blocks.*:text",
        ],
        rule="same",
        pairs={
            "transformer_blocks.0": "transformer_blocks.3",
            "transformer_blocks.1": "transformer_blocks.7",
            "transformer_blocks.2": "transformer_blocks.11",
            "transformer_blocks.3": "transformer_blocks.15",
            "transformer_blocks.4": "transformer_blocks.18",
            "transformer_blocks.0:text": "transformer_blocks.3:text",
            "transformer_blocks.1:text": "transformer_blocks.7:text",
            "transformer_blocks.2:text": "transformer_blocks.11:text",
            "transformer_blocks.3:text": "transformer_blocks.15:text",
            "transformer_blocks.4:text": "transformer_blocks.18:text",
        },
    ),
)
