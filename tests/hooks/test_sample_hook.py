"""Grids of samples: the teacher above the student, from the same noise."""

import runs
from PIL import Image, ImageChops

from diffdistill.hooks import SampleHook


def rows(path):
    """The pictures of a grid's two rows; below them is the margin of the paper."""
    grid = Image.open(path).convert("RGB")
    lines = [y for y in range(grid.height) if grid.getpixel((grid.width - 30, y)) != (255, 255, 255)]
    gap = max(range(len(lines) - 1), key=lambda i: lines[i + 1] - lines[i])
    return grid.crop((150, 0, grid.width, lines[gap] + 1)), grid.crop((150, lines[gap + 1], grid.width, grid.height))


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def test_the_teacher_stays_and_the_student_moves(shapes_run):
    samples = shapes_run.work_dir / "samples"
    assert {path.name for path in samples.iterdir()} == {"step_3.png", "step_6.png"}
    teacher, student = rows(samples / "step_3.png")
    teacher_later, student_later = rows(samples / "step_6.png")
    assert same(teacher, teacher_later)
    assert not same(student, student_later)
    assert not same(teacher, student)


def test_the_visualizer_gets_the_same_grid(shapes_run):
    (shown,) = shapes_run.work_dir.glob("*/vis_data/vis_image/samples_6.png")
    assert same(Image.open(shown).convert("RGB"), Image.open(shapes_run.work_dir / "samples" / "step_6.png"))


def test_no_prompts_no_samples(thin_sdxl, tmp_path):
    options = runs.shapes(thin_sdxl, default_hooks__samples__prompts=None)
    ended = runs.trained("small_sd_xl_shapes_task_only.py", tmp_path / "run", options)
    assert not (ended.work_dir / "samples").exists()
    assert "Pictures:" not in ended.out
    assert SampleHook(prompts=None).prompts == []
