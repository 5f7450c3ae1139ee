"""Protocols of published speed tables, and their figures, to print beside one's own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A published protocol, of batch 1 at the native resolution, and its figures.

    `published` maps the number of a denoiser's parameters to (seconds, GB) a picture.
    """

    device: str
    steps: int
    dtype: str
    source: str
    published: dict[int, tuple[float, float]]


PRESETS = {
    "rtx4090": Preset(
        device="RTX 4090",
        steps=25,
        dtype="float16",
        source="Gupta et al., 2024, arXiv:2401.02677",
        published={2_567_463_684: (3.23, 11.9), 1_331_334_404: (2.09, 9.4), 745_225_604: (1.49, 8.2)},
    ),
    "a100": Preset(
        device="A100, 80 GB",
        steps=30,
        dtype="bfloat16",
        source="bf16 and SDPA, not compiled; hf.co/datasets/sayakpaul/sample-datasets, collated_results_sdxl.csv",
        published={2_567_463_684: (3.315, 8.958), 1_331_334_404: (2.245, 6.603)},
    ),
}
