"""What the text encoders of a pipeline give, by plain transformers of any version: `embeddings.py OUT FOLDER ...`."""

import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file


def embeddings(folder: Path) -> dict[str, torch.Tensor]:
    """<encoder>.<output> -> the output for the same tokens, in fp32."""
    found, tokens = {}, torch.arange(16).reshape(2, 8)
    for part in sorted(Path(folder).glob("text_encoder*")):
        kind = transformers.CLIPTextModelWithProjection if part.name.endswith("_2") else transformers.CLIPTextModel
        with torch.no_grad():
            output = kind.from_pretrained(part, dtype=torch.float32).eval()(tokens, output_hidden_states=True)
        found[f"{part.name}.last"] = output.last_hidden_state
        found[f"{part.name}.penultimate"] = output.hidden_states[-2]
        found[f"{part.name}.pooled"] = output.text_embeds if part.name.endswith("_2") else output.pooler_output
    return {name: tensor.contiguous() for name, tensor in found.items()}


if __name__ == "__main__":
    out, *folders = map(Path, sys.argv[1:])
    for number, folder in enumerate(folders):
        save_file(embeddings(folder), out / f"{number}.safetensors", {"transformers": transformers.__version__})
