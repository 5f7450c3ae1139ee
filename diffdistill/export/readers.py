"""Which programs read a student's single file, by what they can tell of its U-Net, and what users must do there.

ComfyUI and stable-diffusion.cpp know a U-Net by its widths and the depths of its attentions; docs/single_file.md says what
was tried.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from diffdistill.original.unet import depths

COMFYUI, CPP = "comfyui", "sd.cpp"  # how blocks are numbered; see `unet_places`
WIDTH, CONTEXTS = 320, {768: "SD15", 1024: "SD20", 2048: "SDXL"}  # of the first stage; channels of the text
# Depths behind the ResNets of the way down -> what ComfyUI calls such a model of SDXL's widths.
COMFYUI_XL = {
    (0, 0, 2, 2, 10, 10): "SDXL",
    (0, 0, 2, 2, 4, 4): "SSD1B",
    (0, 0, 1, 1, 2, 2): "Segmind_Vega",
    (0, 2, 5): "KOALA_700M",
    (0, 2, 6): "KOALA_1B",
}
SD_TINY = ((1, 1, 1), None, (1,) * 6)
WHOLE = (
    ((1,) * 6 + (0, 0), 1, (0,) * 3 + (1,) * 9),
    ((0, 0, 2, 2, 10, 10), 10, (10,) * 3 + (2,) * 3 + (0,) * 3),
)
CPP_SD = {WHOLE[0]: "SD", SD_TINY: "SD-Tiny"}
CPP_XL = {
    WHOLE[1]: "SDXL",
    ((0, 0, 2, 2, 4, 4), 0, (4, 4, 10, 2, 1, 1, 0, 0, 0)): "SSD-1B",
    ((0, 0, 1, 1, 2, 2), 0, (2, 2, 2, 1, 1, 1, 0, 0, 0)): "Vega",
}


@dataclass
class Readers:
    """What programs make of a U-Net with that config of diffusers and tensors of those names.

    Attributes:
        comfyui, cpp: what ComfyUI and stable-diffusion.cpp call it; None where they take it for nothing they know.
        tiny: whether stable-diffusion.cpp wants the numbers of a full model.
        has_middle: whether it has a mid block.
        whole: whether it is no cut.
    """

    config: Mapping
    names: Collection[str]

    def __post_init__(self):
        found = depths(self.names)
        kind = CONTEXTS.get(self.config["cross_attention_dim"]) if self.config["block_out_channels"][0] == WIDTH else None
        self.xl = kind == "SDXL"
        self.comfyui = COMFYUI_XL.get(found[0]) if self.xl else kind
        self.cpp = kind and (CPP_XL if self.xl else CPP_SD).get(found)
        self.tiny = found == SD_TINY
        self.has_middle = found[1] is not None
        self.whole = found in WHOLE

    def lines(self, names: str, v_prediction: bool) -> list[str]:
        """A line for every program, of a file whose blocks are numbered as `names` says."""
        by_hand = v_prediction and not self.xl
        return [
            f"ComfyUI: {self.comfyui_line(names, by_hand)}",
            f"Forge: {self.forge_line(names)}",
            f"stable-diffusion.cpp: {self.cpp_line(names, by_hand)}",
            f"A1111: {self.a1111_line()}",
            "InvokeAI: wants the folder; export without --single-file",
        ]

    def comfyui_line(self, names: str, by_hand: bool) -> str:
        """What ComfyUI makes of it; `by_hand` where it does not see that v is predicted."""
        if names == CPP and self.tiny:
            return "misreads these names without a word; export for it with --names comfyui"
        if not self.comfyui:
            return "does not know a U-Net of these widths and depths"
        node = "; it takes it to predict epsilon: add the node ModelSamplingDiscrete, v_prediction" if by_hand else ""
        return f"reads it as {self.comfyui}{node}"

    def forge_line(self, names: str) -> str:
        """What Forge makes of it, whose detection is ComfyUI's."""
        if not self.comfyui or (names == CPP and self.tiny):
            return "as ComfyUI"
        return "as ComfyUI (not tried)" if self.has_middle else "puts a random mid block where this has none; do not use it"

    def a1111_line(self) -> str:
        """What A1111 makes of it, which has SSD-1B since its pull request 13865, and no other cut."""
        known = self.comfyui == "SSD1B" or (self.whole and self.comfyui)
        return "reads it (not tried)" if known else "knows SSD-1B and uncut models alone"

    def cpp_line(self, names: str, by_hand: bool) -> str:
        """What stable-diffusion.cpp makes of it."""
        if not self.cpp:
            return "does not know this cut"
        if self.tiny and names != CPP:
            return f"reads it as {self.cpp} under other names; export for it with --names {CPP}"
        return f"reads it as {self.cpp}" + ("; give --prediction v" if by_hand else "")
