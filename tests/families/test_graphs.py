"""Graphs for ONNX Runtime and OpenVINO: torch's numbers, whatever was cut, for any batch and size."""

import sys
from pathlib import Path

import diffusers
import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config

from diffdistill.errors import InputError
from diffdistill.families.graphs import check_runtime, write_graph
from diffdistill.families.runtimes import RUNTIMES, Opened
from diffdistill.families.signal_stack import signal_stack
from diffdistill.families.tracing import denoiser_part
from diffdistill.students.weights import make_student

CUTS = Path(__file__).parents[2] / "configs/_base_/cuts"
TOLERANCE = 2e-5  # largest difference to torch in fp32, of outputs whose deviation is about 1


def keep(cut: str) -> dict:
    return Config.fromfile(CUTS / f"{cut}.py").cut.student["keep"].to_dict()


def sd_tiny() -> torch.nn.Module:
    """Without mid block and innermost stage, one ResNet a stage; it is told the guidance scale."""
    student, _ = make_student(tiny.sd_unet(time_cond_proj_dim=8), keep("bk_sdm_tiny"))
    return student


def koala() -> torch.nn.Module:
    """SDXL's layout without a mid block, with depths of its own."""
    student, _ = make_student(tiny.sdxl_unet(), keep("koala_700m"))
    return student


def shallow(widths: tuple[int, int] = (8, 16)) -> torch.nn.Module:
    """Two stages and a mid block: for what does not depend on the layers."""
    blocks = dict(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")
    )
    options = dict(sample_size=16, layers_per_block=1, cross_attention_dim=32, attention_head_dim=8, norm_num_groups=4)
    return diffusers.UNet2DConditionModel(block_out_channels=widths, **options, **blocks).eval()


def half_sd3(folder: Path) -> torch.nn.Module:
    teacher = diffusers.SD3Transformer2DModel.from_pretrained(folder, subfolder="transformer")
    student, _ = make_student(teacher, {"transformer_blocks": [0, 3]})
    return student


def arguments(part, batch: int, height: int, width: int, tokens: int) -> dict[str, torch.Tensor]:
    """Inputs of another batch and size than those that were traced."""
    free = {0: batch, 1: tokens, 2: height, 3: width}
    torch.manual_seed(1)
    found = {}
    for name, tensor in part.inputs.items():
        shape = [free[axis] if axis in part.free[name] else size for axis, size in enumerate(tensor.shape)]
        found[name] = torch.rand(shape) * 900 if name == "timestep" else torch.randn(shape)
    return found


def written(part, folder: Path, runtime: str, **options) -> Opened:
    write_graph(part, folder / "denoiser", runtime, **options)
    return RUNTIMES[runtime].open(folder / "denoiser" / RUNTIMES[runtime].file, "float32")


def difference(part, graph: Opened, given: dict[str, torch.Tensor]) -> float:
    with torch.no_grad():
        expected = part.call(*given.values())[0]
    (found,) = graph(given).values()
    assert found.shape == expected.shape
    return (found - expected).abs().max().item()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("student", [sd_tiny, koala])
def test_cut_unets_of_both_layouts(student, runtime, tmp_path):
    """Also at sizes that cannot be halved as often as the UNet does."""
    torch.manual_seed(0)
    part = denoiser_part(student())
    graph = written(part, tmp_path, runtime)
    assert difference(part, graph, arguments(part, 2, 16, 16, 77)) < TOLERANCE
    assert difference(part, graph, arguments(part, 3, 10, 13, 154)) < TOLERANCE


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_cut_transformer_of_sd3(tiny_sd3, runtime, tmp_path):
    part = denoiser_part(half_sd3(tiny_sd3))
    graph = written(part, tmp_path, runtime)
    assert difference(part, graph, arguments(part, 1, 16, 16, 93)) < TOLERANCE
    assert difference(part, graph, arguments(part, 3, 8, 12, 40)) < TOLERANCE


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_eight_bits_are_smaller_and_near(runtime, tmp_path):
    torch.manual_seed(0)
    part = denoiser_part(shallow((32, 64)))
    whole, small = (written(part, tmp_path / str(each), runtime, compress=each) for each in (False, True))
    given = arguments(part, 1, 16, 16, 77)
    assert difference(part, whole, given) < TOLERANCE < difference(part, small, given) < 0.1
    weights = "*.bin" if runtime == "openvino" else "*.onnx"
    sizes = [next((tmp_path / each).rglob(weights)).stat().st_size for each in ("False", "True")]
    assert sizes[1] < (0.3 if runtime == "openvino" else 0.95) * sizes[0]  # OpenVINO's of convolutions as well


def test_openvino_stores_half_precision(tmp_path):
    part = denoiser_part(shallow())
    whole, half = (written(part, tmp_path / each, "openvino", dtype=each) for each in ("float32", "float16"))
    given = arguments(part, 1, 16, 16, 77)
    assert difference(part, whole, given) < TOLERANCE < difference(part, half, given) < 5e-3
    sizes = {each: next((tmp_path / each).rglob("*.bin")).stat().st_size for each in ("float32", "float16")}
    assert sizes["float16"] == pytest.approx(sizes["float32"] / 2, rel=0.1)


def test_weights_beside_an_onnx_file_are_one_file(tmp_path):
    """torch scatters those of a model above 2 GB."""
    import onnx

    from diffdistill.families.graphs import gather_weights

    part = denoiser_part(shallow())
    graph = written(part, tmp_path, "onnx")
    file = tmp_path / "denoiser/model.onnx"
    model = onnx.load(file)
    onnx.save_model(model, file, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    assert len(list(file.parent.iterdir())) > 50
    gather_weights(file)
    assert {path.name for path in file.parent.iterdir()} == {"model.onnx", "model.onnx_data"}
    given = arguments(part, 1, 16, 16, 77)
    again = RUNTIMES["onnx"].open(file, "float32")
    assert np.array_equal(*(next(iter(each(given).values())) for each in (graph, again)))


def test_what_cannot_be_exported_is_one_line(monkeypatch):
    with pytest.raises(InputError, match=r"--runtime=onnx: a FluxPipeline is not exported for a runtime; those of Stable"):
        check_runtime("onnx", diffusers.FluxPipeline, "float32", None)
    with pytest.raises(InputError, match=r"--dtype=float16: weights for ONNX Runtime are stored in float32"):
        check_runtime("onnx", diffusers.StableDiffusionPipeline, "float16", None)
    with pytest.raises(InputError, match=r"--dtype=bfloat16: weights for OpenVINO are stored in float32 or float16"):
        check_runtime("openvino", diffusers.StableDiffusionPipeline, "bfloat16", None)
    monkeypatch.setitem(sys.modules, "nncf", None)  # as where it is not installed
    check_runtime("openvino", diffusers.StableDiffusionPipeline, "float16", None)
    with pytest.raises(
        InputError, match=r"--runtime=openvino: nncf is not installed.*pip install 'diffdistill\[openvino\]'"
    ):
        check_runtime("openvino", diffusers.StableDiffusionPipeline, "float16", "int8")


def test_a_model_that_cannot_be_traced_leaves_nothing(tmp_path):
    unet = shallow()
    part = denoiser_part(unet)
    unet.conv_out = torch.nn.Fold(4, 2)  # refuses what it is given
    with pytest.raises(InputError, match=r"--runtime=onnx: the UNet2DConditionModel in denoiser/ cannot be exported: "):
        write_graph(part, tmp_path / "denoiser", "onnx")
    assert not list(tmp_path.glob(".traced*"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such stack")
def test_openvino_leaves_the_stack_of_signal_handlers(tmp_path):
    """Engines that end in the order in which they began would leave it freed, and the next signal would end the process."""
    before = signal_stack()
    part = denoiser_part(shallow())
    for name in ("first", "second"):
        write_graph(part, tmp_path / name, "openvino", compress=True)
    opened = [RUNTIMES["openvino"].open(tmp_path / name / "openvino_model.xml", "float32") for name in ("first", "second")]
    while opened:
        after = signal_stack()
        assert (after.address, after.flags, after.size) == (before.address, before.flags, before.size)
        del opened[0]
