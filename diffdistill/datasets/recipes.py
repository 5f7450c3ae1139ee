"""What the published systems were trained and measured on: where each data set is, how large, and into which folder it goes.

docs/recipes.md says the same for people. Figures that could not be looked up are marked as such there.
"""

from dataclasses import dataclass, field

AUTHORS = "https://netspresso-research-code-release.s3.us-east-2.amazonaws.com/data"  # of BK-SDM
GB = 10**9


@dataclass(frozen=True)
class Recipe:
    """One data set, which is fetched from a repository of the Hub, or from files at addresses.

    Attributes:
        title: what it is, and who trained on it.
        reads: the path below OUT that the shipped configs name, and what is there in the end.
        disk: bytes that it takes at its largest, downloads included.
        hub: a data set of the Hub, with pictures, or with addresses of pictures where there are `columns`.
        patterns: the files of it that are needed.
        columns: of a table of addresses, (address, caption): names that either column may have, the best first.
        limit: how many rows of the table are fetched; None for all.
        side: pictures are made so small that their shorter side has so many pixels; smaller ones stay.
        files: address -> path below OUT; an archive is unpacked beside itself.
    """

    title: str
    reads: str
    disk: int
    hub: str = ""
    patterns: tuple[str, ...] = ("*",)
    columns: tuple[tuple[str, ...], ...] = ()
    limit: int | None = None
    side: int = 1024
    files: dict[str, str] = field(default_factory=dict)


RECIPES = {
    "laion_aesthetics": Recipe(
        "212,776 pairs of LAION-Aesthetics 6.5+, as the authors of BK-SDM have prepared them",
        reads="preprocessed_212k",
        disk=38 * GB,  # an archive of 18 GB and its content
        files={f"{AUTHORS}/improved_aesthetics_6.5plus/preprocessed_212k.tar.gz": "preprocessed_212k.tar.gz"},
    ),
    "laion_art": Recipe(
        "a million pictures of LAION-art with captions of a model, the data of Distill-SD (SD-Small, SD-Tiny)",
        reads="pictures",
        disk=120 * GB,
        hub="recastai/LAION-art-EN-improved-captions",
        patterns=("data/*.parquet",),
        columns=(("url", "URL"), ("generated_caption", "orig_caption", "TEXT")),
        limit=1_000_000,
        side=512,
    ),
    "laion_pop": Recipe(
        "491,567 pictures of LAION-POP with long captions, the data of KOALA",
        reads="pictures",
        disk=220 * GB,
        hub="laion/laion-pop",
        patterns=("*.parquet",),
        columns=(("url", "URL"), ("cogvlm_caption", "llava_caption", "caption")),
    ),
    "grit_midjourney": Recipe(
        "pairs of GRIT, to which pairs of Midjourney are added by hand: what SSD-1B and Vega were trained on",
        reads="pictures",
        disk=5_000 * GB,
        hub="zzliang/GRIT",
        patterns=("grit-20m/*.parquet",),
        columns=(("url", "URL"), ("caption", "text")),
    ),
    "coco_30k": Recipe(
        "30,000 captions of MS-COCO's validation set of 2014, and statistics of its pictures, as BK-SDM has prepared them",
        reads="mscoco_val2014_30k/metadata.csv",
        disk=2 * GB,
        files={
            f"{AUTHORS}/{path}": path
            for path in ("mscoco_val2014_30k/metadata.csv", "mscoco_val2014_41k_full/real_im256.npz")
        },
    ),
    "pokemon_blip": Recipe(
        "833 captioned pictures of Pokemon", reads=".", disk=GB, hub="lambdalabs/pokemon-blip-captions", patterns=("data/*",)
    ),
    "dreambooth_dog": Recipe(
        "five photographs of one dog", reads=".", disk=GB // 10, hub="diffusers/dog-example", patterns=("*.jpeg", "*.jpg")
    ),
}
