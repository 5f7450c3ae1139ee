"""Every config of the project loads, explains itself, survives a dump, and describes a student that can be built."""

import ast
import json
import sys
from functools import cache

import pytest
import runs
import tiny_transformers
from mmengine.config import Config, ConfigDict

from diffdistill.config.check import check_model, check_parts
from diffdistill.config.read import find_config, load_config
from diffdistill.config.stages import stage_configs
from diffdistill.errors import InputError
from diffdistill.families.architectures import hub_names, load_architecture
from diffdistill.models.plan import Plan

FILES = sorted((runs.ROOT / "configs").rglob("*.py"))
CONFIGS = [path for path in FILES if "_base_" not in path.parts]
KINDS = {"StableDiffusion": "sd", "StableDiffusion3": "sd3", "StableDiffusionXL": "sdxl"}
TRANSFORMERS = {
    "StableDiffusion3": tiny_transformers.write_sd3,
    "Flux": tiny_transformers.write_flux,
    "PixArtSigma": tiny_transformers.write_pixart,
    "Sana": tiny_transformers.write_sana,
    "QwenImage": tiny_transformers.write_qwen,
}
# What a denoiser's config says of its blocks, and nothing of their widths.
BLOCKS = ("num_layers", "num_single_layers", "dual_attention_layers", "qk_norm")


def name(path) -> str:
    return str(path.relative_to(runs.ROOT / "configs"))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_config_says_what_it_trains(path):
    assert len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") > 40


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """(family, checkpoint) -> the folder of a tiny pipeline with the blocks of that checkpoint."""

    @cache
    def write(family: str, checkpoint: str) -> str:
        known = hub_names().get(checkpoint.lower())
        config = load_architecture(known)["transformer/config.json"] if known else {}
        blocks = {key: config[key] for key in BLOCKS if key in config}
        return str(TRANSFORMERS[family](tmp_path_factory.mktemp(family), **blocks))

    return write


@pytest.fixture
def on_disk(request, transformer):
    """A config with a teacher that is here and has the same layers: an embedded pipeline, or a tiny one of its kind."""

    def load(path) -> Config:
        config = load_config(path.stem)
        origin = config.model.get("base") or config.model.teacher
        kind = KINDS.get(origin.type)
        if origin.checkpoint.startswith("diffdistill::"):
            checkpoint = f"diffdistill::{kind}_shapes"
        elif origin.type in TRANSFORMERS:
            checkpoint = transformer(origin.type, origin.checkpoint)
        else:
            checkpoint = str(request.getfixturevalue(f"tiny_{kind}"))
        origin.update(checkpoint=checkpoint, vae=None)
        if config.model.get("student", {}).get("checkpoint"):
            config.model.student.checkpoint = None
        if "quantize" in config.model.get("student", {}) and not checkpoint.startswith("diffdistill::"):
            config.model.student.quantize.group_size = 8  # divides the tiny widths
        return config

    return load


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_is_found_by_its_name_and_known_in_all_its_parts(path, on_disk):
    assert find_config(path.name) == find_config(path.stem) == path
    config = on_disk(path)
    check_parts(config)
    assert config.work_dir == f"work_dirs/{path.stem}"


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_without_workers_a_loader_has_no_options_of_workers(part):
    """torch refuses `persistent_workers` and `prefetch_factor` where there is no worker."""
    loader = dict(persistent_workers=True, prefetch_factor=2)
    options = {f"{part}_dataloader.{key}": value for key, value in dict(loader, num_workers=0).items()}
    config = load_config("ssd_1b_distill_from_sdxl_pokemon_blip", options)
    assert not loader.keys() & config[f"{part}_dataloader"].keys()
    options[f"{part}_dataloader.num_workers"] = 2
    config = load_config("ssd_1b_distill_from_sdxl_pokemon_blip", options)
    assert loader.items() <= dict(config[f"{part}_dataloader"]).items()


def test_a_stage_may_turn_the_workers_off():
    config = load_config("ssd_1b_distill_from_sdxl_pokemon_blip")
    assert config.train_dataloader.persistent_workers
    config.stages = [dict(name="one"), dict(name="two", train_dataloader=dict(num_workers=0))]
    one, two = stage_configs(config)
    assert "persistent_workers" in one.train_dataloader
    assert "persistent_workers" not in two.train_dataloader


def without_captions(config: Config) -> Config:
    """The config without the file of captions that a user must bring."""
    if conditioning := config.model.get("method", {}).get("conditioning"):
        conditioning.captions = None
    return config


@cache
def plan_of_json(model: str) -> Plan:
    return check_model(ConfigDict(json.loads(model)))


def plan_of(config: Config) -> Plan:
    """The plan of a config, shared by those that agree on what it is made of. The order of keys counts as a difference."""
    left_out = ("dtype", "sampling", "assistant")  # an assistant is a file of another run
    model = {key: value for key, value in config.model.to_dict().items() if key not in left_out}
    if "GridTimesteps" in str(model.get("method")):  # which are those of the sampler of the config's own teacher
        del model["method"]["timesteps"]
    losses = {name: dict(type=loss["type"]) for name, loss in (model.pop("losses", None) or {}).items() if loss}
    return plan_of_json(json.dumps(model | dict(losses=losses)))


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_dumped_config_rebuilds_the_same_student(path, on_disk, tmp_path):
    """MMEngine sorts the keys of a dump, so nothing may hang on their order."""
    config = on_disk(path)
    config.dump(tmp_path / "dumped.py")
    dumped = Config.fromfile(tmp_path / "dumped.py")
    assert dumped.to_dict() == config.to_dict()

    plans = [plan_of(each) for each in map(without_captions, (config, dumped))]
    assert plans[0].config == plans[1].config
    assert plans[0].trained_state().keys() == plans[1].trained_state().keys()
    if "student" in config.model:
        assert plans[0].layers.kept == plans[1].layers.kept
    assert plans[0].pairs == plans[1].pairs
    assert bool(plans[0].pairs) == any(loss.needs_features for loss in plans[0].losses.values())


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_the_intervals_of_a_config_fit_its_updates(path):
    config = load_config(path.stem)
    interval = config.default_hooks.checkpoint.interval
    assert interval % config.optim_wrapper.get("accumulative_counts", 1) == 0
    assert interval <= config.train_cfg.max_iters


def installed(folder):
    """The package as an installation lays it out: a folder for `PYTHONPATH`, with what mim needs in `.mim`."""
    package = folder / "diffdistill"
    (package / ".mim").mkdir(parents=True)
    for part in (runs.ROOT / "diffdistill").iterdir():
        if part.name not in (".mim", "__pycache__"):
            (package / part.name).symlink_to(part)
    for part in ("configs", "tools", "model-index.yml"):
        (package / ".mim" / part).symlink_to(runs.ROOT / part)
    return folder


@pytest.mark.processes
def test_a_student_of_ones_own_is_a_config_outside_the_project(tiny_sdxl, tmp_path):
    """By a real process, with the package installed, from another folder: thinner than the quick start's student."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thinner.py").write_text(
        '_base_ = ["diffdistill::shapes/small_sd_xl_shapes.py"]\n'
        "model = dict(student=dict(keep={\n"
        '    "up_blocks.1.resnets": [0, 2],\n'
        '    "*_blocks.*.attentions.*.transformer_blocks": None,  # was one layer\n'
        '    "*_blocks.2.attentions.*.transformer_blocks": [0, 9],\n'
        '    "up_blocks.0.attentions.*.transformer_blocks": [0, 9],\n'
        "}))\n"
    )
    process = runs.start(
        "train",
        "thinner.py",
        *runs.options(**runs.shapes(tiny_sdxl, **runs.SAMPLES)),
        cwd=mine,
        PYTHONPATH=str(installed(tmp_path / "site")),
    )
    ended = runs.finish(process)
    assert ended.code == 0, ended
    work_dir = mine / "work_dirs" / "thinner"
    assert all((work_dir / name).exists() for name in runs.FILES)
    assert Config.fromfile(work_dir / "unet" / "config.json").transformer_layers_per_block == [1, 2, 2]


HARMFUL = "danger: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['ran']]\n"


@pytest.mark.parametrize("kind", ["yaml", "yml", "json"])
def test_a_config_is_a_python_file(kind, tmp_path, monkeypatch):
    """MMEngine reads YAML by a loader that runs what a tag says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"harm.{kind}").write_text(HARMFUL)
    (tmp_path / "heir.py").write_text(f"_base_ = ['./heir_of.py', './harm.{kind}']\n")
    (tmp_path / "heir_of.py").write_text("a = 1\n")
    for config in (f"harm.{kind}", "heir.py"):
        with pytest.raises(InputError, match=rf"harm\.{kind}: a config is a Python file"):
            load_config(config)
    with pytest.raises(InputError, match=rf"harm\.{kind}: a config is a Python file"):
        load_config(runs.SHAPES, protocol=f"harm.{kind}")
    assert not (tmp_path / "ran").exists()


def test_configs_that_inherit_in_a_circle(tmp_path):
    for name, base in (("one", "two"), ("two", "three"), ("three", "two")):
        (tmp_path / f"{name}.py").write_text(f"_base_ = ['./{base}.py']\n")
    with pytest.raises(InputError, match=r"in a circle; two\.py from three\.py from two\.py"):
        load_config(str(tmp_path / "one.py"))


def write_with_imports(folder, **imports) -> str:
    base = runs.ROOT / "configs" / "shapes" / "small_sd_xl_shapes.py"
    (folder / "mine.py").write_text(f"_base_ = [{str(base)!r}]\ncustom_imports = dict(_delete_=True, **{imports!r})\n")
    return str(folder / "mine.py")


def test_a_module_beside_the_config_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "my_own_loss.py").write_text(
        "from diffdistill.losses import TaskLoss\nfrom diffdistill.registry import MODELS\n"
        "@MODELS.register_module()\nclass MyOwnLoss(TaskLoss): ...\n"
    )
    config = load_config(write_with_imports(tmp_path, imports=["my_own_loss"]), {"model.losses.task.type": "MyOwnLoss"})
    check_parts(config)


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        (dict(imports=["not_here"]), r"custom_imports.imports: not_here cannot be imported \(ModuleNotFoundError"),
        (dict(imports="os.nothing"), "os.nothing cannot be imported"),
        (dict(imports=["broken"]), r"broken cannot be imported \(ZeroDivisionError"),
        (dict(imports=[3]), r"custom_imports.imports=\[3\] must be a list"),
        (dict(imprts=["os"]), "custom_imports.imprts is not a key"),
    ],
)
def test_what_cannot_be_imported_is_named(imports, message, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match=message):
        load_config(write_with_imports(tmp_path, **imports))


def test_an_import_may_fail_where_the_config_says_so(tmp_path):
    load_config(write_with_imports(tmp_path, imports=["not_here"], allow_failed_imports=True))
