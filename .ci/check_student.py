"""Load a student with plain diffusers and run it once; the folder is the only argument."""

import sys

import torch
from diffusers import UNet2DConditionModel

student, report = UNet2DConditionModel.from_pretrained(sys.argv[1], output_loading_info=True)
problems = {kind: names for kind, names in report.items() if names}
if problems:
    raise SystemExit(f"{sys.argv[1]}: {problems}")
if any(name.split(".")[0] == "diffdistill" for name in sys.modules):
    raise SystemExit("diffdistill was imported: this checks that plain diffusers is enough")

config = student.config
size = config.sample_size
inputs = {"encoder_hidden_states": torch.zeros(1, 4, config.cross_attention_dim)}
if config.addition_embed_type == "text_time":
    time_ids = torch.zeros(1, 6)
    pooled = config.projection_class_embeddings_input_dim - time_ids.numel() * config.addition_time_embed_dim
    inputs["added_cond_kwargs"] = {"text_embeds": torch.zeros(1, pooled), "time_ids": time_ids}
with torch.no_grad():
    sample = student(torch.zeros(1, config.in_channels, size, size), 500, **inputs).sample
if not sample.isfinite().all():
    raise SystemExit(f"{sys.argv[1]}: the prediction is not finite")
print(f"{sys.argv[1]}: {student.num_parameters():,} parameters, prediction {tuple(sample.shape)}")
