"""Cut, repair, 4 steps and then 1 by DMD2 (Yin et al., 2024, arXiv:2405.14867); all as in dmd2_4_steps.py.

The paper goes to one step from 10,000 pairs of noise and the teacher's picture, and tells the student t = 399. Here the
student of 4 steps goes on, and is told 999, so that stock schedulers sample it.
"""

_base_ = ["./dmd2_4_steps.py"]

repaired, matched = _base_.stages
one = dict(type="DistributionMatching", steps=1, guidance_scale=8.0, ratio=5, _delete_=True)
stages = [repaired, matched, dict(matched, name="matched_1", model=dict(matched["model"], method=one))]
del repaired, matched, one
