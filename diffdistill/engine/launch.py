"""How the ranks of a run are started, and what a config must be to run on several, or in pieces over them."""

import os
import subprocess

import torch
from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed
from mmengine.registry import OPTIMIZERS

from diffdistill.engine.sharding import FullyShard
from diffdistill.errors import InputError
from diffdistill.models.plan import Plan

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
OF_SLURM = dict(RANK="SLURM_PROCID", WORLD_SIZE="SLURM_NTASKS", LOCAL_RANK="SLURM_LOCALID")
PORT = 29500  # torchrun's
HINTS = {
    "pytorch": "`torchrun --nproc_per_node N tools/train.py ... --launcher pytorch`, or `mim train ... --gpus N`",
    "slurm": "`srun --ntasks N --kill-on-bad-exit=1 python tools/train.py ... --launcher slurm`",
}


def count_ranks(launcher: str) -> int:
    """The number of ranks that `launcher` has started. Raises InputError where it has started none."""
    variables = {"pytorch": TORCHRUN, "slurm": [*OF_SLURM.values(), "SLURM_NODELIST"]}.get(launcher, ())
    missing = [name for name in variables if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"--launcher={launcher}: no ranks have been started, as {', '.join(missing)} {'are' if missing[1:] else 'is'}"
            f" not set; start them with {HINTS[launcher]}"
        )
    return int(os.environ[OF_SLURM["WORLD_SIZE"] if launcher == "slurm" else "WORLD_SIZE"]) if variables else 1


def place_of_rank(launcher: str) -> tuple[int, int]:
    """The number of this process among those of `launcher`, and how many there are; each takes a GPU of its own.

    They need not find each other. Raises InputError where none have been started.
    """
    ranks = count_ranks(launcher)
    names = {"pytorch": ("RANK", "LOCAL_RANK"), "slurm": (OF_SLURM["RANK"], OF_SLURM["LOCAL_RANK"])}.get(launcher)
    rank, local = (int(os.environ[name]) for name in names) if names else (0, 0)
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
    return rank, ranks


def start_ranks(config: Config) -> None:
    """Let the ranks find each other, by Gloo on CPUs, once a process. Raises InputError where none have been started."""
    if is_distributed():
        return
    count_ranks(config.launcher)
    if config.launcher == "slurm" and not os.environ.get("MASTER_ADDR"):
        name_slurm_ranks()
    if torch.cuda.is_available():
        launcher = "pytorch" if config.launcher == "slurm" else config.launcher
        init_dist(launcher, **config.get("env_cfg", {}).get("dist_cfg", {}))
    else:
        torch.distributed.init_process_group("gloo")


def name_slurm_ranks() -> None:
    """Set the variables of torchrun from those of SLURM; the first node of the job is where the ranks meet."""
    nodes = subprocess.run(
        ["scontrol", "show", "hostnames", os.environ["SLURM_NODELIST"]], capture_output=True, text=True, check=True
    )
    os.environ.update({name: os.environ[theirs] for name, theirs in OF_SLURM.items()})
    os.environ["MASTER_ADDR"] = nodes.stdout.split()[0]
    os.environ.setdefault("MASTER_PORT", str(PORT))


def lost_a_rank(error: BaseException) -> bool:
    """Whether `error` says that another rank is out of reach: NCCL's errors have a class of their own, Gloo's have none."""
    return isinstance(error, torch.distributed.DistError) or (type(error) is RuntimeError and "gloo" in str(error))


def check_ranks(config: Config, samples: int) -> None:
    """Raise InputError for more ranks than `samples` of the training set, or than give each a batch."""
    ranks = count_ranks(config.get("launcher", "none"))
    if ranks > samples:
        raise InputError(
            f"train_dataloader.dataset has {samples} samples for {ranks} ranks; start at most {samples}, or add samples"
        )
    loader = config.train_dataloader
    size, share = loader.get("batch_size", 1), -(-samples // ranks)
    if loader.get("drop_last") and size > share and loader.get("sampler", {}).get("type") != "InfiniteSampler":
        raise InputError(
            f"train_dataloader.batch_size={size}: each of {ranks} ranks has {share} of {samples} samples, which is no batch,"
            f" and drop_last=True drops it; set it to {share} or less, or start fewer ranks"
        )


def check_sharding(config: Config, plan: Plan | None) -> None:
    """Raise InputError where a config shards what cannot be, or over no ranks."""
    if not is_sharding(config.get("model_wrapper_cfg")):
        return
    where = "model_wrapper_cfg.type=FullyShard"
    if config.get("launcher", "none") == "none":
        raise InputError(
            f"{where} spreads the model over ranks, and --launcher=none starts one; start several with {HINTS['pytorch']},"
            " or set model_wrapper_cfg=None"
        )
    if plan is None:
        raise InputError(f"{where} knows the models of this package alone; {config.model.type} is another")
    if plan.adapters and plan.whole:
        raise InputError(
            f"{where}: {', '.join(plan.whole)} would be in pieces and the adapter of {', '.join(plan.adapters)} whole, which"
            " no optimizer takes together; train adapters of all, such as model.text_encoder_adapter, or none"
        )
    if plan.adapters and not plan.method.predicts:
        raise InputError(
            f"{where}: {type(plan.method).__name__} calls single blocks of a student with an adapter before it calls the"
            " student, which cannot be in pieces then; train the student whole, without model.student.adapter"
        )
    for name, loss in plan.losses.items():
        if getattr(loss, "differentiates_twice", False):
            raise InputError(
                f"{where}: model.losses.{name} ({type(loss).__name__}) differentiates its critic twice with r1_sigma=None,"
                " which torch cannot with one in pieces; give a number, such as r1_sigma=0.01"
            )
    name = config.optim_wrapper.optimizer.type
    kind = OPTIMIZERS.get(name) if isinstance(name, str) else name
    if not plan.adapters and (kind.__name__ == "Adafactor" or kind.__module__.startswith("bitsandbytes")):
        raise InputError(
            f"{where}: optim_wrapper.optimizer.type={kind.__name__} does not know parameters in pieces; use one that treats"
            " each element by itself, such as AdamW"
        )


def is_sharding(model_wrapper_cfg: dict | None) -> bool:
    """Whether a config's `model_wrapper_cfg` shards the model."""
    return bool(model_wrapper_cfg) and model_wrapper_cfg.get("type") in (FullyShard, FullyShard.__name__)
