"""LCM-LoRA (Luo et al., 2023, arXiv:2311.05556): an adapter of rank 64 on attention, feed-forward and convolutions.

As diffusers' example trains it: no moving average and no embedding of the scale.
"""

_base_ = ["./latent_consistency.py"]

method = dict(
    student=dict(
        adapter=dict(
            type="LoraConfig",
            r=64,
            lora_alpha=64,
            target_modules=["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
            + ["conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"],
        )
    ),
    method=dict(target="student"),
)
