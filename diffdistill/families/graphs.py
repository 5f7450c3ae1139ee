"""Writing the models of a pipeline as graphs for a runtime: traced by torch to ONNX, and from there to OpenVINO."""

import io
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import diffusers
import torch
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.runtimes import RUNTIMES, folder_of
from diffdistill.families.signal_stack import keep_signal_stack
from diffdistill.families.tracing import Part, parts_of

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline")
DTYPES = dict(openvino=("float32", "float16"), onnx=("float32",))  # in which the weights can be stored
OPSET = 17


class Traced(nn.Module):
    """A part as a module of tensors alone, as torch's exporter wants it."""

    def __init__(self, part: Part):
        super().__init__()
        self.model, self.part = part.model, part

    def forward(self, *tensors: Tensor):
        return tuple(self.part.call(*tensors))


def check_runtime(runtime: str, pipeline_class: type, dtype: str, compress: str | None) -> None:
    """Raise InputError for what cannot be exported, or not without a package that is not installed."""
    option, known = f"--runtime={runtime}", RUNTIMES[runtime]
    if pipeline_class.__name__ not in PIPELINES:
        raise InputError(
            f"{option}: a {pipeline_class.__name__} is not exported for a runtime; those of {', '.join(PIPELINES)} are"
        )
    if dtype not in DTYPES[runtime]:
        raise InputError(f"--dtype={dtype}: weights for {known.title} are stored in {' or '.join(DTYPES[runtime])}")
    tools = dict(openvino=["nncf"], onnx=["onnx"])[runtime] if compress or runtime == "onnx" else []
    known.check_installed(option, *tools)


def write_onnx(part: Part, file: Path) -> None:
    """Trace `part` to the ONNX `file`; above 2 GB its weights lie beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of every branch that the trace takes, and of the exporter that is to come
        # By tracing: the exporter that is to come (dynamo=True) takes ten times as long, for the same graph.
        torch.onnx.export(
            Traced(part).eval(),
            tuple(part.inputs.values()),
            file,
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            dynamic_axes=part.free,
            opset_version=OPSET,
            dynamo=False,
        )


def gather_weights(file: Path) -> None:
    """Put the weights that lie beside an ONNX file, one file each, into a single one."""
    import onnx

    scattered = [path for path in file.parent.iterdir() if path != file]
    if not scattered:
        return
    model = onnx.load(file)
    for path in (file, *scattered):
        path.unlink()
    onnx.save_model(model, file, save_as_external_data=True, location=f"{file.name}_data")


def finish_onnx(part: Part, traced: Path, folder: Path, compress: bool, dtype: str) -> None:
    """Bring a traced model into `folder`; `compress` stores the matrices in 8 bits, which multiply inputs in 8 bits."""
    target = folder / RUNTIMES["onnx"].file
    if not compress:
        shutil.copytree(traced.parent, folder, dirs_exist_ok=True)
        return gather_weights(target)
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = len(list(traced.parent.iterdir())) > 1
    quantize_dynamic(
        traced, target, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, use_external_data_format=large
    )
    return None


def finish_openvino(part: Part, traced: Path, folder: Path, compress: bool, dtype: str) -> None:
    """Convert a traced model to OpenVINO's format in `folder`; `compress` stores weights in 8 bits, a scale a channel."""
    import openvino

    model = openvino.Core().read_model(traced)
    if compress:
        import nncf

        with keep_signal_stack():
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    for ports, names in ((model.inputs, part.inputs), (model.outputs, part.outputs)):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().set_names({name})  # alone: inner ones have gathered there
    openvino.save_model(model, folder / RUNTIMES["openvino"].file, compress_to_fp16=dtype == "float16")


@contextmanager
def silenced() -> Iterator[None]:
    """Inside the block, tables and advice of the compressing tools are not printed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def write_graph(part: Part, folder: Path, runtime: str, dtype: str = "float32", compress: bool = False) -> None:
    """Write the graph of one part to `folder`. Raises InputError where torch or the runtime cannot take the model."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".traced") as place:
        traced = Path(place, RUNTIMES["onnx"].file)
        try:
            write_onnx(part, traced)
            with silenced():
                dict(openvino=finish_openvino, onnx=finish_onnx)[runtime](part, traced, folder, compress, dtype)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"--runtime={runtime}: the {type(part.model).__name__} in {folder.name}/ cannot be exported: {reason[:300]}"
            ) from error


def write_runtime_pipeline(
    pipeline: diffusers.DiffusionPipeline, folder: Path, runtime: str, dtype: str, compress: str | None
) -> None:
    """Write `pipeline` to `folder` for a runtime; its models are brought to fp32 on the CPU.

    With its configs, scheduler and tokenizers, so that the pipeline of diffusers samples it. `compress="int8"` compresses
    denoiser and text encoders; a VAE is small, and every error of it is seen.
    """
    parts = parts_of(pipeline)
    for name, part in parts.items():
        target = folder / folder_of(name)
        write_graph(part, target, runtime, dtype, bool(compress) and name != "vae")
        config = part.model.config
        save = part.model.save_config if isinstance(part.model, diffusers.ModelMixin) else config.save_pretrained
        save(target)
    for name, other in pipeline.components.items():
        if name not in parts and hasattr(other, "save_pretrained"):
            other.save_pretrained(folder / name)
    pipeline.save_config(folder)
