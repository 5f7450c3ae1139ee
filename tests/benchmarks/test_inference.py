"""Side-by-side measurements of inference: what is measured, in which order, and what the figures are made of."""

import csv
import json

import published
import pytest
import runs
import tiny_transformers
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from rich.console import Console

from diffdistill.benchmarks import tables
from diffdistill.benchmarks.candidates import Loader, load_all
from diffdistill.benchmarks.inference import (
    Entry,
    Protocol,
    call_denoiser,
    call_pipeline,
    choose_protocol,
    compare,
    describe,
    measure_inference,
)
from diffdistill.benchmarks.machine import machine
from diffdistill.benchmarks.published import PRESETS
from diffdistill.benchmarks.variants import Variant
from diffdistill.errors import InputError

SD_14 = "CompVis/stable-diffusion-v1-4"
SHAPES = "diffdistill::sdxl_shapes"
META = Loader(torch.float16, "meta", random_weights=True, pipelines=False)
LOADER = Loader(torch.float32, "cpu")


def protocol(**options) -> Protocol:
    return Protocol("cpu", "float32", **dict(dict(steps=1, rounds=1, warmup=1), **options))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (SD_14, "sd_1"),
        ("sd_tiny_distill_from_realistic_vision_4_laion_art", "sd_tiny"),
        ("ssd_1b_distill_from_sdxl_pokemon_blip.py", "ssd_1b"),
        ("vega_progressive_from_sdxl_pokemon_blip", "vega"),
    ],
)
def test_figures_of_published_models(source, name):
    """At their native resolution, by name alone: a hub name, a config's student, the last of several stages."""
    found = describe(Entry(META.load(source), Variant("eager")), protocol())
    assert found["parameters"] == published.PARAMETERS[name]
    assert (round(found["gmacs"]), round(found["gmacs_without_attention"])) == published.GMACS[name]
    assert found["resolution"] == (512 if name in ("sd_1", "sd_tiny") else 1024)


def test_gmacs_follow_the_resolution():
    """Most layers cost in proportion to the area, attention more than that, and what reads only the text the same."""
    candidate = META.load(SD_14)
    full, half = (describe(Entry(candidate, Variant("eager")), protocol(resolution=size)) for size in (512, 256))
    assert 0.25 < half["gmacs_without_attention"] / full["gmacs_without_attention"] < 0.26
    assert half["gmacs"] / full["gmacs"] < 0.23


def test_every_kind_of_source(thin_sdxl, tmp_path, monkeypatch):
    """What is on disk is loaded; of a config, what is not there has random weights."""
    monkeypatch.chdir(tmp_path)
    found = load_all(LOADER, [str(thin_sdxl), str(thin_sdxl / "unet"), SHAPES, runs.SHAPES, f"{runs.SHAPES}:teacher"])
    assert [candidate.name for candidate in found] == [
        "sdxl (1)", "sdxl (2)", "sdxl_shapes (3)", "small_sd_xl_shapes", "sdxl_shapes (5)",
    ]  # fmt: skip
    assert [candidate.weights for candidate in found] == ["checkpoint"] * 3 + ["random", "checkpoint"]
    assert [candidate.pipeline is None for candidate in found] == [False, True, False, False, False]
    assert [candidate.latent_pixels for candidate in found] == [2, 8, 4, 4, 4]
    weights = [next(candidate.denoiser.parameters()) for candidate in found]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    torch.testing.assert_close(weights[2], weights[4], rtol=0, atol=0)


def test_a_config_is_measured_with_the_student_that_its_run_exported(shapes_run, tmp_path, monkeypatch):
    folder = tmp_path / "work_dirs" / "small_sd_xl_shapes"
    folder.mkdir(parents=True)
    (folder / "unet").symlink_to(shapes_run.work_dir / "unet")
    monkeypatch.chdir(tmp_path)
    found = Loader(torch.float32, "cpu", pipelines=False).load(runs.SHAPES)
    assert found.weights == "checkpoint"
    exported = LOADER.load(str(shapes_run.work_dir / "unet")).denoiser
    torch.testing.assert_close(found.denoiser.state_dict(), exported.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no_such_config", ["no_such_config"]),
        ("diffdistill::nothing", ["diffdistill::sdxl_shapes"]),
        ("someone/something", ["someone/something", "--random-weights"]),
    ],
)
def test_sources_that_do_not_exist(source, words):
    with pytest.raises(InputError) as error:
        LOADER.load(source)
    assert all(word in str(error.value) for word in words)


def test_a_round_runs_every_model_once(thin_sdxl, tiny_sd):
    """Denoisers in turn, warm-up first; then the pipelines likewise, two calls of guidance each."""
    candidates = load_all(LOADER, [str(thin_sdxl), str(tiny_sd), str(tiny_sd / "unet")])
    seen: list[tuple[int, int]] = []
    for number, candidate in enumerate(candidates):
        count = lambda model, args, kwargs, number=number: seen.append(  # noqa: E731
            (number, len(args[0] if args else kwargs["sample"]))
        )
        candidate.denoiser.register_forward_pre_hook(count, with_kwargs=True)
    candidates[1].pipeline.scheduler.register_to_config(skip_prk_steps=True)
    rows = measure_inference(candidates, protocol(batch=3, rounds=2, variants=("eager", "channels_last")))
    assert seen[:18] == [(0, 3), (0, 3), (1, 3), (1, 3), (2, 3), (2, 3)] * 3
    assert [number for number, _ in seen[18:]] == [number for number, _ in sorted(set(seen[18:])) for _ in range(2)] * 3
    assert {size for _, size in seen[18:]} == {6}
    assert [row["variant"] for row in rows] == ["eager", "channels_last"] * 3
    assert ["pipeline_seconds" in row for row in rows] == [True] * 4 + [False] * 2  # of the last, only a denoiser is known
    assert rows[0]["images_per_second"] == 3 / rows[0]["pipeline_seconds"]


def test_without_guidance_the_denoiser_sees_each_sample_once(thin_sdxl):
    candidate, sizes = LOADER.load(str(thin_sdxl)), []
    candidate.denoiser.register_forward_pre_hook(lambda model, args: sizes.append(len(args[0])))
    for scale in (1.0, 7.5):
        entry = Entry(candidate, Variant("eager"))
        entry.part(call_pipeline(entry, protocol(guidance_scale=scale, steps=2))).run()
    assert sizes == [1, 1, 2, 2]


def test_pipelines_of_transformers(tiny_sd3, sd3_config):
    """A folder, a denoiser alone, and a config: the blocks in turn, with guidance, and the arguments of the family."""
    candidates = load_all(LOADER, [str(tiny_sd3), str(tiny_sd3 / "transformer"), str(sd3_config)])
    assert [candidate.latent_pixels for candidate in candidates] == [2, 8, 2]
    assert [candidate.denoiser.config.num_layers for candidate in candidates] == [4, 4, 2]
    tokens = []
    candidates[2].denoiser.register_forward_pre_hook(
        lambda model, args, kwargs: tokens.append(kwargs["encoder_hidden_states"].shape), with_kwargs=True
    )
    rows = measure_inference(candidates, protocol())
    assert [row["resolution"] for row in rows] == [32, 128, 32]
    assert ["pipeline_seconds" in row for row in rows] == [True, False, True]
    assert tokens == [(1, 77 + 256, 128)] * 2 + [(2, 77 + 1, 128)] * 2  # max_sequence_length of the config


@pytest.mark.parametrize("name", ["flux", "sana", "pixart", "qwen"])
def test_every_family_is_measured(name, tmp_path):
    """With weights and without: a step of two samples, and a picture."""
    folder = getattr(tiny_transformers, f"write_{name}")(tmp_path / name)
    for random in (False, True):
        candidate = Loader(torch.float32, "cpu", random_weights=random).load(str(folder))
        (row,) = measure_inference(
            [candidate], Protocol("cpu", "float32", resolution=32, steps=1, rounds=1, warmup=1, batch=2)
        )
        assert row["resolution"] == 32
        assert min(row["pipeline_seconds"], row["step_seconds"]) > 0


def test_attention_of_a_transformer_keeps_its_processors(tiny_sd3, monkeypatch):
    candidate, results = LOADER.load(str(tiny_sd3)), []
    processors = candidate.denoiser.attn_processors
    for name in ("eager", "plain", "channels_last"):
        entry = Entry(candidate, Variant(name))
        torch.manual_seed(0)
        part = entry.part(call_denoiser(entry, protocol()))
        part.prepare()
        results.append(part.run()[0])
        assert candidate.denoiser.attn_processors == processors
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("diffdistill.benchmarks.variants.find_spec", lambda name: True)
    with pytest.raises(InputError, match="of a SD3Transformer2DModel does not run by xformers; choose one of flash"):
        Entry(candidate, Variant("xformers")).part(lambda: None).run()


def test_a_resolution_that_tokens_do_not_divide(tiny_sd3):
    with pytest.raises(InputError, match=r"--resolution 34, sd3: pictures of 34 x 34 .* the nearest is 32 x 32"):
        call_denoiser(Entry(LOADER.load(str(tiny_sd3)), Variant("eager")), protocol(resolution=34))


def test_ratios_are_medians_of_those_within_a_round():
    """The machine is ten times slower in the second round: the ratios do not see it."""
    found = compare({"teacher": [2.0, 20.0, 2.2], "student": [1.0, 10.0, 1.0]}, "step")
    assert found["teacher"]["step_speedup"] == 1
    assert found["student"] == {"step_seconds": 1.0, "step_p90": pytest.approx(8.2), "step_speedup": 2.0}


def test_variants_change_how_a_denoiser_runs_and_not_what_it_gives(thin_sdxl):
    candidate = LOADER.load(str(thin_sdxl))
    first, torch_memory = None, torch.channels_last
    for name in ("eager", "channels_last", "plain", "channels_last+plain", "eager"):
        entry = Entry(candidate, Variant(name))
        torch.manual_seed(0)
        part = entry.part(call_denoiser(entry, protocol()))
        part.prepare()
        result = part.run()[0]
        first = result if first is None else first
        torch.testing.assert_close(result, first, rtol=1e-4, atol=1e-4)
        weight = candidate.denoiser.down_blocks[0].resnets[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch_memory) == ("channels_last" in name)
        expected = AttnProcessor if "plain" in name else AttnProcessor2_0
        assert {type(own) for own in candidate.denoiser.attn_processors.values()} == {expected}


def test_a_compiled_denoiser_stands_in_the_pipeline(shallow_sdxl):
    candidate, compiled = LOADER.load(str(shallow_sdxl)), []
    entry = Entry(candidate, Variant("compile"))

    def backend(graph, inputs):
        compiled.append(len(inputs))
        return graph.forward

    entry.wrapped = entry.variant.wrap(candidate.denoiser, backend)
    entry.part(call_pipeline(entry, protocol())).run()
    assert compiled
    assert candidate.pipeline.unet is candidate.denoiser  # put back, for the next variant


@pytest.mark.parametrize("name", ["chanels_last", "plain+flash", "compile+"])
def test_variants_that_mean_nothing(name):
    with pytest.raises(InputError, match="--variants"):
        protocol(variants=(name,))


@pytest.mark.parametrize("key", ["rounds", "warmup", "steps", "batch"])
def test_counts_below_one_are_refused(key):
    with pytest.raises(InputError, match=f"--{key} 0: give 1 or more"):
        protocol(**{key: 0})


@pytest.mark.parametrize("options", [dict(dtype="float8"), dict(device="cuda")])
def test_choices_that_are_not_there(options):
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError):
        choose_protocol(**options)


def test_presets_give_what_is_not_chosen():
    assert (choose_protocol("rtx4090").steps, choose_protocol("rtx4090").dtype) == (25, "float16")
    assert (choose_protocol("a100").steps, choose_protocol("a100", steps=4).steps) == (30, 4)
    assert choose_protocol("a100", dtype="float32").dtype == "float32"


def figures_of(names: dict[str, int], **options) -> dict:
    """Figures as they are measured, made up: the second model takes half the time of the first."""
    rows = [
        dict(model=name, variant="eager", weights="random", resolution=1024, parameters=size, gmacs=3381.0)
        | {f"{kind}_{key}": value / (number + 1) for kind in ("step", "pipeline") for key, value in (
            ("seconds", 2.5), ("p90", 3.0), ("peak_gb", 7.7))}
        | dict(step_speedup=number + 1.0, pipeline_speedup=number + 1.0, images_per_second=0.4)
        for number, (name, size) in enumerate(names.items())
    ]  # fmt: skip
    chosen = choose_protocol(**options)
    for row in rows:
        row["published_seconds"], row["published_peak_gb"] = PRESETS["rtx4090"].published.get(
            row["parameters"], (None, None)
        )
    return dict(rows=rows, protocol=vars(chosen), machine=machine("cpu"))


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_a_terminal(width, capsys):
    sdxl, ssd_1b = (published.PARAMETERS[name] for name in ("sdxl", "ssd_1b"))
    names = {"stable-diffusion-xl-base-1.0": sdxl, "ssd_1b": ssd_1b, "mine": 5}
    console = Console(width=width, highlight=False)
    tables.print_inference(figures_of(names, preset="rtx4090"), console)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    for text in ("2.00 ×", "3.23", "2.09", "11.9", "1024²", "arXiv:2401.02677", "random weights"):
        assert text in shown
    assert (f"{sdxl:,}" in shown) == (width == 120)


def test_figures_are_written_for_programs(tiny_sd, tmp_path):
    """By the command line, as users run it."""
    files = dict(json=tmp_path / "figures.json", csv=tmp_path / "figures.csv")
    options = ["--steps", 1, "--rounds", 1, "--warmup", 1, "--random-weights"]
    ended = runs.tool("benchmark", "inference", tiny_sd, *options, "--json", files["json"], "--csv", files["csv"])
    assert ended.code == 0, ended
    figures = json.loads(files["json"].read_text())
    assert figures["protocol"]["rounds"] == 1
    assert figures["machine"]["torch"] == torch.__version__
    with files["csv"].open() as file:
        (row,) = csv.DictReader(file)
    assert {name: str(value) for name, value in figures["rows"][0].items()} == row
    assert row["weights"] == "random"


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path):
    ended = runs.tool("benchmark", "inference", "no_such_config", "--csv", tmp_path / "none" / "a.csv")
    assert ended.code == 2
    assert "--csv" in ended.err
