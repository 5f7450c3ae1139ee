"""Pipelines exported for a runtime: those of diffusers, whose models call OpenVINO or ONNX Runtime instead of torch."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPTextModelOutput

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import load_pipeline, model_classes
from diffdistill.families.signal_stack import keep_signal_stack
from diffdistill.students.cut import build

HIDDEN = "hidden_states."  # of text encoders, and then the number of the layer; as optimum calls them
DECODER = "vae_decoder"  # folder of the half of a VAE that is exported

# Arrays by input name -> the outputs' arrays, in their order.
Run = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Opened:
    """A graph that a runtime has loaded: the names of its inputs and outputs, and how it is run."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    run: Run

    def __call__(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, in fp32 and on the CPU, of tensors by the names of the inputs."""
        kinds = {name: torch.int64 if name == "input_ids" else torch.float32 for name in self.inputs}
        arrays = {name: given[name].detach().to("cpu", kind).contiguous().numpy() for name, kind in kinds.items()}
        return {name: torch.from_numpy(array) for name, array in zip(self.outputs, self.run(arrays), strict=True)}


def open_openvino(file: Path, dtype: str) -> Opened:
    """The graph of an OpenVINO model on the CPU, on as many threads as torch, that computes in `dtype`."""
    import openvino

    precision = dict(float32="f32", bfloat16="bf16")[dtype]
    hints = dict(INFERENCE_PRECISION_HINT=precision, INFERENCE_NUM_THREADS=torch.get_num_threads())
    core = openvino.Core()
    model = core.read_model(file)
    inputs, outputs = ([port.any_name for port in ports] for ports in (model.inputs, model.outputs))
    with keep_signal_stack():
        request = core.compile_model(model, "CPU", hints).create_infer_request()  # which gives its ports other names

    def run(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found = request.infer([arrays[name] for name in inputs], share_inputs=True)
        return [array.copy() for array in found.to_tuple()]  # the request writes the next results over these

    return Opened(inputs, outputs, run)


def open_onnx(file: Path, dtype: str) -> Opened:
    """The graph of an ONNX file in ONNX Runtime on the CPU, on as many threads as torch, in fp32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([port.name for port in ports] for ports in (session.get_inputs(), session.get_outputs()))
    return Opened(inputs, outputs, lambda arrays: session.run(outputs, arrays))


@dataclass(frozen=True)
class Runtime:
    """A library that runs exported graphs: what it is called, what installs it, and which files it reads."""

    title: str
    extra: str
    packages: Sequence[str]
    file: str
    dtypes: Sequence[str]  # in which it computes on a CPU
    open: Callable[[Path, str], Opened]

    def check_installed(self, option: str, *more: str) -> None:
        """Raise InputError, naming `option`, unless the runtime is installed, and the packages `more` beside it."""
        for package in (*self.packages, *more):
            if find_spec(package) is None:
                raise InputError(
                    f"{option}: {package} is not installed, which is needed for {self.title};"
                    f" pip install 'diffdistill[{self.extra}]'"
                )

    def check_dtype(self, dtype: str, key: str) -> None:
        """Raise InputError for a dtype in which the runtime does not compute."""
        if dtype not in self.dtypes:
            raise InputError(f"{key}={dtype}: {self.title} computes in {' or '.join(self.dtypes)} on a CPU; give that")


# Name -> runtime; the files lie as optimum has them.
RUNTIMES = {
    "openvino": Runtime("OpenVINO", "openvino", ["openvino"], "openvino_model.xml", ("float32", "bfloat16"), open_openvino),
    "onnx": Runtime("ONNX Runtime", "onnx", ["onnxruntime"], "model.onnx", ("float32",), open_onnx),
}


def runtime_of(folder: str | Path) -> Runtime | None:
    """The runtime that the pipeline in `folder` was exported for; None for one of torch, and where there is no folder."""
    return next((runtime for runtime in RUNTIMES.values() if any(Path(folder).glob(f"*/{runtime.file}"))), None)


class InRuntime:
    """A model of its own class, without weights, that computes in a runtime; so pipelines take it as they take torch's."""

    graph: Opened
    dtype, device = torch.float32, torch.device("cpu")  # of what it takes and returns, wherever the rest is

    def _apply(self, fn, recurse=True):
        return self


class RuntimeDenoiser(InRuntime):
    """A denoiser that computes in a runtime."""

    def forward(self, *args, return_dict: bool = True, **kwargs):
        """The prediction, as the denoiser's class returns it. Raises InputError for an input that was not exported."""
        given = dict(named_tensors(inspect.signature(super().forward).bind(*args, **kwargs).arguments))
        for name in given.keys() - set(self.graph.inputs):
            raise InputError(f"the exported {type(self).__name__} takes no {name}; draw with the pipeline of torch")
        batch = len(given[next(name for name in ("sample", "hidden_states") if name in given)])
        given["timestep"] = given["timestep"].expand(batch)
        output = next(iter(self.graph(given).values()))
        return diffusers.models.modeling_outputs.Transformer2DModelOutput(output) if return_dict else (output,)


class RuntimeTextEncoder(InRuntime):
    """A text encoder that computes in a runtime."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False, **_):
        """The output of a text encoder, with all hidden states on request."""
        if attention_mask is not None:
            raise InputError(f"the exported {type(self).__name__} takes no attention mask; draw with the pipeline of torch")
        found = self.graph(dict(input_ids=input_ids))
        hidden = tuple(tensor for name, tensor in found.items() if name.startswith(HIDDEN)) if output_hidden_states else None
        kind = CLIPTextModelOutput if "text_embeds" in found else BaseModelOutputWithPooling
        if "pooler_output" not in found and kind is BaseModelOutputWithPooling:
            kind = BaseModelOutput
        return kind(**{name: tensor for name, tensor in found.items() if not name.startswith(HIDDEN)}, hidden_states=hidden)


class RuntimeVAE(InRuntime):
    """A VAE whose decoder computes in a runtime; its encoder was not exported."""

    def decode(self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None):
        """Pictures (B, 3, H, W) of latents in the VAE's own scale."""
        picture = next(iter(self.graph(dict(latent_sample=z)).values()))
        return DecoderOutput(picture) if return_dict else (picture,)

    def encode(self, *args, **kwargs):
        """Raises InputError."""
        raise InputError(f"the exported {type(self).__name__} has no encoder; give the pipeline of torch")


def named_tensors(arguments: Mapping) -> Iterator[tuple[str, Tensor]]:
    """The tensors among a call's arguments by name, those in dicts as well; of a list of tensors the name and the first."""
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            yield from named_tensors(value)
        elif isinstance(value, (list, tuple)):
            yield from ((name, each) for each in value[:1] if isinstance(each, Tensor))
        elif isinstance(value, Tensor) or name == "timestep":
            yield name, torch.as_tensor(value)


class RuntimeFolder:
    """A pipeline that was exported for a runtime, and its models by name.

    Args:
        checkpoint: its folder.
        dtype: in which the runtime computes.
        key: what asks for that dtype, for errors.

    Raises InputError where the runtime is not installed, does not compute in `dtype`, or where a file is missing.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str, key: str):
        self.checkpoint, self.dtype = checkpoint, dtype
        self.runtime = runtime_of(checkpoint.path)
        where = f"{checkpoint.key}={checkpoint.name}"
        self.runtime.check_installed(where)
        self.runtime.check_dtype(dtype, key)
        self.classes = model_classes(checkpoint.read_json("model_index.json"))
        for name in self.classes:
            if not (file := self.file(name)).exists():
                raise InputError(f"{where}: {file.parent.name}/{file.name} is missing; export the pipeline again")

    def file(self, name: str) -> Path:
        """The file of the model `name`."""
        return Path(self.checkpoint.path, folder_of(name), self.runtime.file)

    def part(self, name: str) -> nn.Module:
        """The model `name`, on the CPU."""
        kind, config = self.classes[name], self.checkpoint.read_json(f"{folder_of(name)}/config.json")
        with torch.device("meta"):
            is_diffusers = issubclass(kind, diffusers.ModelMixin)
            model = build(kind, config) if is_diffusers else kind(kind.config_class.from_dict(config))
        role = RuntimeVAE if name == "vae" else RuntimeTextEncoder if name.startswith("text_encoder") else RuntimeDenoiser
        model.requires_grad_(False).eval()
        model.__class__ = type(kind.__name__, (role, kind), {})
        try:
            model.graph = self.runtime.open(self.file(name), self.dtype)
        except Exception as error:  # each runtime has errors of its own
            reason = " ".join(str(error).split())
            raise InputError(f"{self.file(name)} cannot be opened by {self.runtime.title}: {reason[:300]}") from error
        return model

    def parts(self, names: Iterable[str]) -> dict[str, nn.Module]:
        """The models `names` by name."""
        return {name: self.part(name) for name in names}

    def pipeline(self) -> diffusers.DiffusionPipeline:
        """The pipeline of diffusers around all of them."""
        return load_pipeline(self.checkpoint, **self.parts(self.classes))


def folder_of(name: str) -> str:
    """The folder of the model that a pipeline calls `name`."""
    return DECODER if name == "vae" else name
