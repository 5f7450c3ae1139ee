"""Published students at their true size as single files, and back: `python tests/helpers/true_files.py [STUDENT ...]`.

With `--keep FOLDER` the files stay, with `--names sd.cpp` for stable-diffusion.cpp.

Weights are random. Of every student it prints what docs/results/single_file.md has: tensors and bytes of the file, how many
come back as they were, whether `from_single_file` of diffusers reads the same U-Net, and how far the outputs are apart.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import diffusers
import plans
import published
import torch

from diffdistill.benchmarks.random_weights import random_model, random_pipeline
from diffdistill.export.single_file import config_files, original_tensors, write
from diffdistill.families.architectures import planning
from diffdistill.families.single_file import CONFIGS, SingleFile
from diffdistill.students.denoisers.rules import rules_of

UNET = diffusers.UNet2DConditionModel
STUDENTS = {
    published.student_of(name): name for name in plans.students() if "StableDiffusion" in plans.read(name).model.teacher.type
}
STUDENTS = {student: name for student, name in STUDENTS.items() if plans.read(name).model.teacher.type != "StableDiffusion3"}


@torch.no_grad()
def call(unet) -> torch.Tensor:
    """What a U-Net predicts, in fp32, for a latent of 16 x 16."""
    torch.manual_seed(0)
    inputs = rules_of(UNET).inputs(unet.config, 16)
    inputs |= {key: torch.randn(inputs[key].shape) for key in ("sample", "encoder_hidden_states")}
    return unet(**inputs)[0]


def check(name: str, folder: Path, gapped: bool = False) -> dict:
    """The row of the student that the config `name` trains."""
    plan = plans.plan(name)
    with planning():
        unet = random_model("diffusers", "UNet2DConditionModel", plan.config, torch.float16, "cpu")
        pipeline = random_pipeline(plan.family.checkpoint, torch.float16, "cpu", {"unet": unet})
        files = config_files(pipeline, plan.family.checkpoint)
    file = folder / "student.safetensors"
    start = time.perf_counter()
    tensors = original_tensors(pipeline, gapped)
    write(tensors, {CONFIGS: json.dumps(files)}, file)
    seconds, count = time.perf_counter() - start, len(tensors)
    del tensors
    single, equal, total = SingleFile(str(file), str(file)), 0, 0
    assert single.denoiser_config(UNET, plan.family.denoiser_config, "the teacher")["block_out_channels"]
    for part in [key for key in pipeline.components if key == "vae" or key.startswith("text_encoder") or key == "unet"]:
        theirs = getattr(pipeline, part).state_dict()
        found = single.load(part, type(getattr(pipeline, part)), files[f"{part}/config.json"]).state_dict()
        assert found.keys() == theirs.keys()
        equal += sum(torch.equal(found[key].half(), tensor) for key, tensor in theirs.items())
        total += len(theirs)
        del found
    for part in ("vae", "text_encoder", "text_encoder_2"):
        if hasattr(pipeline, part):
            setattr(pipeline, part, None)
    expected = call(unet.float())
    apart = (call(single.load("unet", UNET, files["unet/config.json"])) - expected).abs().max().item()
    del pipeline, unet
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text(json.dumps(files["unet/config.json"]))
    try:
        theirs = UNET.from_single_file(file, config=str(folder), subfolder="unet", torch_dtype=torch.float32)
        by_diffusers = f"{(call(theirs) - expected).abs().max().item():.1e}"
    except Exception as error:
        by_diffusers = type(error).__name__
    size = file.stat().st_size / 1e9
    return dict(tensors=count, gigabytes=round(size, 2), equal=f"{equal} of {total}", apart=f"{apart:.1e}",
                by_diffusers=by_diffusers, seconds=round(seconds, 1))  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("students", nargs="*", choices=[*STUDENTS, []])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--names", choices=["comfyui", "sd.cpp"], default="comfyui")
    args = parser.parse_args()
    for student in args.students or STUDENTS:
        with tempfile.TemporaryDirectory() as made:
            row = check(STUDENTS[student], Path(made), args.names == "sd.cpp")
            if args.keep:
                shutil.move(Path(made, "student.safetensors"), args.keep / f"{student}.safetensors")
        print(json.dumps(dict(student=student, **row)), flush=True)
