"""How well teacher and student do with few sampling steps."""

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from diffdistill.distiller import Distiller
from diffdistill.methods.progressive import TRAILING_DDIM
from diffdistill.registry import METRICS
from diffdistill.run import load_distiller


def metrics_by_steps(
    config: Config, checkpoint: str, steps: Sequence[int], guidance: float | None = None, teacher: bool = False
) -> list[dict]:
    """The metrics of the config's validation after each number of sampling steps; one dict each, with `steps`.

    A student whose method trains it for a sampler is sampled with that one, everything else with trailing DDIM.
    `guidance` is the scale, by default the config's. `teacher` measures the teacher instead of the student of `checkpoint`.
    """
    distiller = load_distiller(config, checkpoint)
    init_default_scope("diffdistill")
    loader = Runner.build_dataloader(config.val_dataloader)
    own = {} if teacher else distiller.method.sampling
    distiller.predict_with = "teacher" if teacher else "student"
    rows = []
    for count in steps:
        options = {**distiller.sampling, "scheduler": TRAILING_DDIM, **own, "num_inference_steps": count}
        if guidance is not None:
            options["guidance_scale"] = guidance
        distiller.sampling, distiller.method.sampling = options, options
        rows.append(dict(steps=count, guidance_scale=options["guidance_scale"], **evaluate_once(distiller, loader, config)))
    return rows


@torch.no_grad()
def evaluate_once(distiller: Distiller, loader, config: Config) -> dict[str, float]:
    evaluator = Evaluator([METRICS.build(dict(config.val_evaluator))])
    for batch in loader:
        samples = distiller(**distiller.data_preprocessor(batch), mode="predict")
        evaluator.process(data_samples=samples, data_batch=batch)
    return evaluator.evaluate(len(loader.dataset))
