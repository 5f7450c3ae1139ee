"""A student before any training: the kept layers of its teacher, for people who train elsewhere."""

from pathlib import Path

from mmengine.config import Config
from torch import nn

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.files import check_new_folder, save_whole
from diffdistill.models.distiller import Distiller
from diffdistill.registry import MODELS


def save_untrained_student(config: Config, out: str, teacher: str | None = None) -> nn.Module:
    """Write the student of `config`, cut from its teacher, to the folder `out` in diffusers' format; returns the student.

    `teacher` takes the place of `model.teacher.checkpoint`. Nothing but the teacher's denoiser is loaded, and the weights
    of `model.student.checkpoint` are not.
    """
    check_new_folder(out, "OUT")
    model = config.model
    if not issubclass(MODELS.get(model.type), Distiller):
        raise InputError(f"model.type={model.type!r} has no student of its own; give a config whose model is a Distiller")
    if teacher:
        model.teacher.update(checkpoint=teacher, vae=None)
    model.student = dict(model.get("student") or {}, checkpoint=None, adapter=None)
    model.losses = dict()  # no pairs need to be found
    plan = check_model(model)
    student = plan.load_student(plan.family.load_denoiser())
    save_whole(student, Path(out))
    return student
