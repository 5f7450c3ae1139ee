"""PCM (Wang et al., 2024, arXiv:2405.18407) as an adapter of rank 64: 4 phases on a grid of 40 times, pseudo-Huber.

From the authors' script for SDXL (github.com/G-U-N/Phased-Consistency-Model): w in [6, 7], which are scales in [7, 8], and
c = 0.001. Ours: no adversarial loss, which has the weight 0.1 there.
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
    method=dict(guidance_scale=[7.0, 8.0], grid=40, phases=4, target="student"),
)
