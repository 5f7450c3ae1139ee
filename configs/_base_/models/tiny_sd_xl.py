"""BK-SDM-Small's cut on SDXL: 1.30 B parameters, small_sd_xl without its mid block.

The rule pairs the student's last down stage with the teacher's mid block: that is what the first up stage is used to.
"""

_base_ = ["./small_sd_xl.py"]

model = dict(student=dict(keep={"mid_block.resnets": [], "mid_block.attentions": []}))
