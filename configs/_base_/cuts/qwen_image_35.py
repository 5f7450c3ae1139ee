"""PPCL's depth of Qwen-Image: 35 of 60 blocks, 11.93 B of 20.43 B parameters (Ma et al., 2025, arXiv:2511.16156).

Of each of 13 intervals the first block stays: 3-4, 5-7, 8-10, 11-12, 15-24, 25-27, 29-30, 42-43, 45-47, 48-49, 52-53, 54-55
and 56-57 (github.com/OPPO-Mente-Lab/Qwen-Image-Pruning). Each is compared with the end of its interval, in both streams.
"""

# fmt: off
cut = dict(
    student=dict(
        keep={
            "transformer_blocks": [
                0, 1, 2, 3, 5, 8, 11, 13, 14, 15, 25, 28, 29, 31, 32, 33, 34, 35,
                36, 37, 38, 39, 40, 41, 42, 44, 45, 48, 50, 51, 52, 54, 56, 58, 59,
            ]
        }
    ),
    feature_pairs=dict(level=["transformer_blocks.*", "transformer_blocks.*:text"], rule="next"),
)
# fmt: on
