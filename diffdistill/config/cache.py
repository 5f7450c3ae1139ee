"""What a cache of encoded data must be made of to stand in for the data of a config, and how large it is."""

import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import diffusers
import torch
from mmengine.config import Config

from diffdistill import registry
from diffdistill.config.memory import picture_size
from diffdistill.datasets.cache import BAD, Cache, how_to_make
from diffdistill.datasets.cached import check_cacheable
from diffdistill.datasets.sources import local_path
from diffdistill.errors import InputError, shortened
from diffdistill.families.identity import text_identity, vae_identity
from diffdistill.families.latents import latent_shape
from diffdistill.models.plan import Plan
from diffdistill.students.denoisers.rules import rules_of

VERSION = 1  # of what a cache holds; another one is not read
WHERE = "train_dataloader.dataset"
NO_OPTIONS = (
    "type",
    "source",
    "pipeline",
    "max_skipped",
)  # of a data set; what remains decides which rows and captions it has
DRAWN = ("RandomFlip", "CaptionDropout")
# Part of the key -> what it is called.
PARTS = {
    "version": "version of the format",
    "family": "family",
    "vae": "VAE (its files)",
    "text": "text encoders (their files)",
    "dtype": "model.dtype",
    "quantize": "quantize",
    "variant": "variant",
    "tokens": "length and template of the text",
    "transforms": f"{WHERE}.pipeline",
    "options": f"{WHERE} (its options)",
    "rows": "number of rows",
    "data": f"{WHERE} (its pictures and captions)",
}


def check_cache(config: Config, plan: Plan | None) -> Cache | None:
    """The cache that `data_cache` names, or None where it names none.

    Raises InputError for a cache that is not of this config, saying which part differs, and for a training that needs what a
    cache has not.
    """
    folder = config.get("data_cache")
    if not folder:
        return None
    name = config.filename or "CONFIG"
    dataset = check_cacheable_run(config, plan)
    cache = Cache(folder, config=name)
    noted = cache.index["stamps"]
    check_same(cache.key, cache_key(config, plan, dataset, cache.key, noted), f"data_cache={folder}", name)
    return check_captions(cache, plan, f"data_cache={folder}", name)


def check_captions(cache: Cache, plan: Plan, where: str, config: str) -> Cache:
    """Return `cache`; raises InputError where it lacks captions that the method shows."""
    wanted = list(plan.method.captions)
    lacking = (
        [text for text, number in zip(wanted, cache.texts.numbers(wanted), strict=True) if number == BAD] if wanted else []
    )
    if lacking:
        raise InputError(
            f"{where}: model.method asks for {len(lacking)} captions that the cache lacks, such as"
            f" {shortened(repr(lacking[0]))}; {how_to_make(config, 'OTHER')} makes one with them"
        )
    return cache


def check_cacheable_run(config: Config, plan: Plan | None):
    """The data set of a training whose data can be cached. Raises InputError for one whose data cannot."""
    if plan is None:
        raise InputError(f"data_cache: {config.model.type} is no model of this package, so nothing is known of its encoders")
    trained = [name for name in plan.on_meta if name != plan.family.denoiser_name]
    if trained:
        raise InputError(
            f"data_cache: this training changes {', '.join(trained)}, so the embeddings of captions do not stay as they were"
            " cached; train without a cache, or the denoiser alone"
        )
    dataset = registry.build_part(registry.DATASETS, config.train_dataloader.dataset, WHERE)
    if not hasattr(dataset, "captions"):
        raise InputError(
            f"{WHERE}.type={config.train_dataloader.dataset.type} cannot be cached (it has no `captions()`); train without"
            " data_cache"
        )
    check_cacheable(dataset.pipeline, f"{WHERE}.pipeline")
    return dataset


def cache_key(config: Config, plan: Plan, dataset, known: Mapping | None = None, stamps: Mapping | None = None) -> dict:
    """What decides what a cache of `config` holds: JSON values by the names of `PARTS`.

    `known` is a key with digests, and `stamps` those of the files that they are of, which then need not be read again.
    """
    family, section = plan.family, config.train_dataloader.dataset.to_dict()
    found = identities(plan)
    digests = {name: each.digest((stamps or {}).get(name), (known or {}).get(name)) for name, each in found.items()}
    fingerprint = getattr(dataset, "fingerprint", None)
    return dict(
        version=VERSION,
        family=type(family).__name__,
        **digests,
        dtype=str(plan.dtype).removeprefix("torch."),
        quantize=family.quantize,
        variant=family.variant,
        tokens=family.text_options,
        transforms=[kept(each) for each in section.get("pipeline") or [] if each["type"] != "CaptionDropout"],
        options={"type": section["type"], **{name: section[name] for name in sorted(section) if name not in NO_OPTIONS}},
        rows=len(dataset),
        data=fingerprint() if fingerprint else None,
    )


def identities(plan: Plan) -> dict:
    """The identities of the VAE and of the text encoders, by the names of their parts of the key."""
    return dict(vae=vae_identity(plan.family), text=text_identity(plan.family))


def kept(transform: Mapping) -> dict:
    """What a cache keeps of a transform's config: of mirroring, not how often."""
    return dict(type=transform["type"]) if transform["type"] in DRAWN else dict(transform)


def check_same(was: Mapping, wanted: Mapping, where: str, config: str) -> None:
    """Raise InputError for the first part in which a cache, made with the key `was`, is not what is `wanted`."""
    for part, name in PARTS.items():
        ours, theirs = plain(wanted.get(part)), plain(was.get(part))
        if ours == theirs:
            continue
        if part == "rows":
            less = "fewer" if was["rows"] < wanted["rows"] else "more"
            problem = f"has {was['rows']:,} rows, {less} than the {wanted['rows']:,} of {WHERE}"
        else:
            old, new = difference(theirs, ours)
            problem = f"is of another {name}: it was made with {shortened(old)}, and the config has {shortened(new)}"
        raise InputError(f"{where} {problem}; {how_to_make(config, 'OTHER')} makes another, or set data_cache=None")


def plain(value):
    """`value` as JSON gives it back: tuples are lists there."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def difference(was, wanted) -> tuple[str, str]:
    """What two values say where they first differ: of lists and dicts, the items or entries that do."""
    if isinstance(was, list) and isinstance(wanted, list):
        for old, new in zip(was, wanted, strict=False):
            if old != new:
                return difference(old, new)
        at = min(len(was), len(wanted))
        return str((was[at:] or ["nothing there"])[0]), str((wanted[at:] or ["nothing there"])[0])
    if isinstance(was, dict) and isinstance(wanted, dict) and was.get("type") == wanted.get("type"):
        names = [name for name in {**was, **wanted} if was.get(name) != wanted.get(name)]
        return tuple(", ".join(f"{name}={each.get(name)!r}" for name in names) for each in (was, wanted))
    return str(was), str(wanted)


def bytes_of_picture(config: Config, plan: Plan, width: int | None = None) -> int:
    """Bytes of a picture in a cache: mean and deviation of its latents, `width` bytes a number, with its mirror image's."""
    family, vae = plan.family, plan.family.build_on_meta("vae")
    tensors = 1 if isinstance(vae, diffusers.AutoencoderDC) else 2
    upcast = plan.dtype == torch.float16 and vae.config.get("force_upcast")
    width = width or (4 if upcast else plan.dtype.itemsize)
    return copies(config) * tensors * math.prod(latent_shape(family, *[picture_size(config, plan)] * 2)) * width


def bytes_of_caption(plan: Plan, width: int | None = None) -> int:
    """Bytes of the embeddings of a caption in a cache, each of `width` bytes a number."""
    family, width = plan.family, width or plan.dtype.itemsize
    inputs = rules_of(family.denoiser_class).inputs(family.denoiser_config)
    inputs |= inputs.pop("added_cond_kwargs", {})
    tokens, total = family.text_length, 0
    for name in ("encoder_hidden_states", "text_embeds", "pooled_projections"):
        if name in inputs:
            shape = inputs[name].shape
            total += math.prod([tokens, *shape[2:]] if len(shape) > 2 else shape) * width
    masks = [name for name in inputs if name.endswith("_mask")]
    return total + len(masks) * tokens * 8


def size_of_cache(config: Config, plan: Plan) -> dict | None:
    """For `summary`: bytes of a picture and of a caption, the rows of the data set, and bytes of all.

    The last two are None where the data set is not on this disk: nothing is fetched for that. A caption of several rows is
    kept once, so `total` is the most that it can be. None of data that cannot be cached.
    """
    section = (config.get("train_dataloader") or {}).get("dataset")
    kind = section and registry.DATASETS.get(section["type"])
    if not hasattr(kind, "captions") or len(plan.on_meta) > 1:
        return None
    rows = None
    if "source" not in section or local_path(str(section.source)).exists():
        with suppress(InputError):
            rows = len(registry.build_part(registry.DATASETS, section, WHERE))
    picture, caption = bytes_of_picture(config, plan), bytes_of_caption(plan)
    return dict(picture=picture, caption=caption, rows=rows, total=rows and rows * picture + (rows + 1) * caption)


def check_room(folder: Path, needed: int) -> None:
    """Raise InputError where the disk of `folder` has less room than a cache needs."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"OUT={folder}: the cache takes about {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free there; choose"
            " another disk, or --dtype=bfloat16"
        )


def copies(config: Config) -> int:
    """How many copies a cache has of each picture: two, where the pipeline mirrors some."""
    return 1 + any(each["type"] == "RandomFlip" for each in config.train_dataloader.dataset.get("pipeline") or [])
