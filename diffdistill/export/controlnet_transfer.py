"""ControlNets, T2I- and IP-Adapters of a teacher on its student: what fits as it is, and what the layer map makes fit."""

from collections.abc import Mapping
from pathlib import Path

from diffusers import ControlNetModel, T2IAdapter
from mmengine.config import Config
from safetensors.torch import save_file

from diffdistill.errors import InputError
from diffdistill.export.ip_adapter import read_ip_adapter, renumbered
from diffdistill.export.lora_transfer import plan_transfer
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import load_model
from diffdistill.families.unet import UNetFamily
from diffdistill.files import check_new_folder, read_json, save_whole, write_whole
from diffdistill.models.student import StudentPlan
from diffdistill.students.controlnet import SelectedControlNet, chosen_residuals, has_same_depth, residual_layers
from diffdistill.students.cut import build, build_on_meta, first_difference

IP_FILE = "ip_adapter.safetensors"
# Entries of a ControlNet's config that describe the layers of its U-Net's encoder.
ENCODER = (
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "transformer_layers_per_block",
    "attention_head_dim",
    "num_attention_heads",
    "only_cross_attention",
    "mid_block_type",
)
SHARED = ("cross_attention_dim", "addition_embed_type", "projection_class_embeddings_input_dim", "in_channels")


def transfer_controlnet(path: str, config: Config, out: str, thin: bool = False) -> dict:
    """Write the adapter at `path` of the teacher of `config`, for its student, into the folder `out`; returns what was done.

    `path` is the folder of a `ControlNetModel` or `T2IAdapter`, or the file of an IP-Adapter. `thin` cuts a ControlNet as
    the student is cut, instead of choosing among its residuals.
    """
    check_new_folder(out, "OUT")
    if not Path(path).exists():
        raise InputError(f"ADAPTER={path}: no such file or folder")
    plan = plan_transfer(config, "an adapter")
    if not isinstance(plan.family, UNetFamily):
        raise InputError(
            f"ADAPTER={path}: known are adapters of SD 1.x, 2.x and XL, and the teacher is a {type(plan.family).__name__}"
        )
    where = f"ADAPTER={path}"
    kind = read_json(Path(path, "config.json"), where).get("_class_name") if Path(path).is_dir() else None
    if kind not in (None, "ControlNetModel", "T2IAdapter"):
        raise InputError(f"{where} is a {kind}; known are ControlNetModel, T2IAdapter, and files of IP-Adapters")
    if thin and kind != "ControlNetModel":
        raise InputError(f"--thin: {path} is no ControlNetModel, of which alone there is something to cut; leave it out")
    if kind == "ControlNetModel":
        return transfer_residuals(Checkpoint(path, "ADAPTER"), plan, Path(out), thin)
    if kind == "T2IAdapter":
        return copy_features(Checkpoint(path, "ADAPTER"), plan, Path(out))
    return transfer_ip_adapter(path, plan, Path(out))


def describe(figures: Mapping) -> str:
    """One line on what `transfer_controlnet` has done."""
    kind, of = figures["kind"], figures["of"]
    if kind == "IP-Adapter":
        return f"IP-Adapter: {figures['layers']} of {of} cross-attentions, numbered as the student's are"
    if kind == "T2I-Adapter":
        return "T2I-Adapter: as it is; it adds to stages, which every student has"
    if figures["cut"]:
        return f"ControlNet: cut to the student's layers, {len(figures['residuals'])} of {of} residuals; train it on"
    if figures["load"].startswith("ControlNetModel"):
        return f"ControlNet: as it is; the student takes all of its {of} residuals"
    middle = "" if figures["middle"] else "; none for the mid block, where the student's latents are larger"
    numbers = ", ".join(map(str, figures["residuals"]))
    return f"ControlNet: the student takes the residuals {numbers} of {of}{middle}"


def loading(kind: str, out: Path) -> str:
    """How what was written is loaded."""
    if kind == "ip_adapter":
        return f"pipeline.load_ip_adapter({str(out)!r}, subfolder='', weight_name={IP_FILE!r})"
    module = "diffdistill.students.controlnet" if kind == "SelectedControlNet" else "diffusers"
    return f"{kind}.from_pretrained({str(out)!r}), of {module}"


def transfer_residuals(checkpoint: Checkpoint, plan: StudentPlan, out: Path, thin: bool) -> dict:
    """Write a ControlNet for the student: as it is where its residuals fit, choosing among them, or cut."""
    family = plan.family
    teacher, student = (build_on_meta(family.denoiser_class, each).config for each in (family.denoiser_config, plan.config))
    config = checkpoint.read_json("config.json")
    check_base(checkpoint, config, teacher)
    chosen = chosen_residuals(teacher, student, plan.layers)
    total, same = len(residual_layers(teacher)), has_same_depth(teacher, student)
    figures = dict(kind="ControlNet", residuals=chosen, of=total, middle=same, cut=thin)
    loader = "ControlNetModel"
    controlnet = load_model(checkpoint, ControlNetModel)
    if thin:
        controlnet = cut(controlnet, plan, student, chosen)
    elif not (same and chosen == list(range(total))):
        controlnet = SelectedControlNet.around(controlnet, chosen, same)
        loader = "SelectedControlNet"
    save_whole(controlnet, out)
    return figures | dict(load=loading(loader, out))


def check_base(checkpoint: Checkpoint, config: Mapping, teacher: Mapping) -> None:
    """Raise InputError for a ControlNet whose residuals are not for such a teacher, or that is told something else."""
    config = build_on_meta(ControlNetModel, config).config
    found = {key: (config.get(key), teacher.get(key)) for key in SHARED}
    found["residuals"] = tuple(list(residual_layers(each).values()) for each in (config, teacher))
    wrong = [f"its {key} is {ours} and the teacher's {theirs}" for key, (ours, theirs) in found.items() if ours != theirs]
    if wrong:
        raise InputError(f"{checkpoint.key}={checkpoint.name}: a ControlNet of another base: {wrong[0]}")


def cut(controlnet: ControlNetModel, plan: StudentPlan, student: Mapping, chosen: list[int]) -> ControlNetModel:
    """The ControlNet with those layers alone that the student keeps of the teacher; it is to be trained on.

    Raises InputError for one that is not a copy of the teacher's encoder.
    """
    teacher = build_on_meta(plan.family.denoiser_class, plan.family.denoiser_config).state_dict()
    own = {name: tensor for name, tensor in controlnet.state_dict().items() if not name.startswith("controlnet_")}
    encoder = {
        name: tensor
        for name, tensor in teacher.items()
        if name.split(".")[0] not in ("up_blocks", "conv_norm_out", "conv_out")
    }
    if difference := first_difference(own, encoder):
        raise InputError(f"--thin: the ControlNet is no copy of the teacher's encoder: {difference}; leave --thin out")
    config = dict(controlnet.config) | {key: student[key] for key in ENCODER if key in student}
    config["mid_block_type"] = student.get("mid_block_type") or controlnet.config.mid_block_type  # it cannot be without one
    thinned, weights = build(ControlNetModel, config), controlnet.state_dict()
    sources = {}
    for name in thinned.state_dict():
        if name.startswith("controlnet_down_blocks."):
            _, number, rest = name.split(".", 2)
            sources[name] = f"controlnet_down_blocks.{chosen[int(number)]}.{rest}"
        else:
            whole = name.startswith("mid_block.") and not student.get("mid_block_type")
            sources[name] = name if whole else plan.layers.to_teacher(name)
    thinned.load_state_dict({name: weights[source] for name, source in sources.items()})
    return thinned


def copy_features(checkpoint: Checkpoint, plan: StudentPlan, out: Path) -> dict:
    """Write a T2I-Adapter as it is: it adds a feature to each stage, which every student has in the teacher's width."""
    config, widths = checkpoint.read_json("config.json"), list(plan.config["block_out_channels"])
    xl = "xl" in config.get("adapter_type", "")
    if config["channels"][: len(widths)] != widths or xl != (plan.family.addition is not None):
        raise InputError(
            f"{checkpoint.key}={checkpoint.name}: a T2I-Adapter ({config.get('adapter_type')}) of another base: its channels"
            f" are {config['channels']} and the stages' widths {widths}"
        )
    save_whole(load_model(checkpoint, T2IAdapter), out)
    return dict(kind="T2I-Adapter", stages=len(widths), of=len(config["channels"]), load=loading("T2IAdapter", out))


def transfer_ip_adapter(path: str, plan: StudentPlan, out: Path) -> dict:
    """Write an IP-Adapter with the layers that the student keeps, under its numbers."""
    file = Path(path)
    if file.is_dir():
        raise InputError(
            f"ADAPTER={path}: the folder has no config.json of a ControlNet or T2I-Adapter; name the file itself"
        )
    tensors = read_ip_adapter(file, f"ADAPTER={path}")
    denoiser = plan.family.denoiser_class
    teacher, student = (build_on_meta(denoiser, config) for config in (plan.family.denoiser_config, plan.config))
    made = renumbered(tensors, teacher, student, plan.layers, f"ADAPTER={path}")

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in made.items()}, folder / IP_FILE)

    write_whole(write, out)
    layers = [sum("to_k_ip" in name for name in each) for each in (made, tensors)]
    return dict(kind="IP-Adapter", layers=layers[0], of=layers[1], load=loading("ip_adapter", out))
