"""The two-step student of the embedded SDXL-layout pipeline to be fine-tuned, sampled as it was distilled to be.

`mim train diffdistill sdxl_shapes_two_steps.py` makes it, and `mim run diffdistill export sdxl_shapes_two_steps.py
work_dirs/sdxl_two_steps --dtype float32` the pipeline around it, with its scheduler.
"""

_base_ = ["./ft_sdxl_shapes.py"]

model = dict(
    base=dict(checkpoint="work_dirs/sdxl_two_steps"),
    sampling=dict(_delete_=True, num_inference_steps=2, guidance_scale=1.0),  # guidance is folded in
)
