"""LoRA of rank 16 on attention, feed-forward and ResNets: ResNets draw the shape, attention alone learns it more slowly."""

adapter = dict(
    type="LoraConfig",
    r=16,
    lora_alpha=16,
    target_modules=["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
    + ["conv1", "conv2", "time_emb_proj"],
)
