"""What a run trained, as a whole diffusers pipeline."""

from pathlib import Path

from mmengine.config import Config
from torch import nn

from diffdistill.adapters import take_out
from diffdistill.check import check_folder
from diffdistill.errors import InputError
from diffdistill.model import DTYPES, DiffusionModel
from diffdistill.run import exported_student, load_distiller, trains_adapters
from diffdistill.save import write_whole
from diffdistill.trained import write_adapters


def export_pipeline(config: Config, checkpoint: str | None, out: str, dtype: str, fuse_lora: bool = False) -> Path:
    """Write the pipeline of `config` around what it trained to the folder `out`, in `dtype`; gives the folder.

    `checkpoint` is a `.pth` or a folder that a run exported; by default the one that the config's run exported. An adapter
    is written beside its base, for `pipe.load_lora_weights(out)`; with `fuse_lora` it is added to the weights.
    """
    check_folder(out, "OUT")
    if Path(out).exists() and any(Path(out).iterdir()):
        raise InputError(f"{out} is not empty; name a new folder")
    if fuse_lora and not trains_adapters(config.model):
        raise InputError(f"--fuse-lora: {Path(config.filename).name} trains no adapter; leave it out")
    # No loss: nothing but what is exported is loaded. In fp32, so that an adapter is added without rounding.
    config.merge_from_dict(dict(model=dict(losses=dict(_delete_=True), dtype="float32")))
    distiller = load_distiller(config, checkpoint or exported_student(config)).to("cpu").eval()
    return write_whole(lambda folder: write_pipeline(distiller, folder, dtype, fuse_lora), Path(out))


def write_pipeline(distiller: DiffusionModel, folder: Path, dtype: str, fuse_lora: bool) -> None:
    if distiller.adapted and not fuse_lora:
        write_adapters(distiller, folder)
    for name in distiller.adapted:
        take_out(distiller.component(name), fuse_lora)
    pipeline = distiller.family.assemble(distiller.frozen.pipeline, distiller.student)
    pipeline.scheduler = distiller.exported_scheduler()
    for model in pipeline.components.values():
        if isinstance(model, nn.Module):
            nn.Module.to(model, DTYPES[dtype])
    pipeline.save_pretrained(folder)
