"""A run's student as a whole diffusers pipeline."""

from pathlib import Path

from mmengine.config import Config
from torch import nn

from diffdistill.check import check_folder
from diffdistill.distiller import DTYPES
from diffdistill.errors import InputError
from diffdistill.run import exported_student, load_distiller
from diffdistill.save import save_whole


def export_pipeline(config: Config, checkpoint: str | None, out: str, dtype: str) -> Path:
    """Write the pipeline of `config`'s teacher around its student to the folder `out`, in `dtype`; gives the folder.

    `checkpoint` is a `.pth` or a UNet folder; by default the student that the run exported.
    """
    check_folder(out, "OUT")
    if Path(out).exists() and any(Path(out).iterdir()):
        raise InputError(f"{out} is not empty; name a new folder")
    # No loss: the teacher's denoiser is not kept, and where the student has a folder of its own not even read.
    config.merge_from_dict(dict(model=dict(losses=dict(_delete_=True))))
    distiller = load_distiller(config, checkpoint or exported_student(config)).to("cpu")
    pipeline = distiller.family.assemble(distiller.frozen.pipeline, distiller.student.eval())
    pipeline.scheduler = distiller.exported_scheduler()
    for model in pipeline.components.values():
        if isinstance(model, nn.Module):
            nn.Module.to(model, DTYPES[dtype])
    return save_whole(pipeline, Path(out))
