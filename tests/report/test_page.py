"""The page of a run and the page that compares runs."""

import base64
import html
import io
import json
import re
import shutil

import pytest
import runs
from mmengine.hooks import Hook
from PIL import Image

from diffdistill.config.read import load_config
from diffdistill.registry import HOOKS
from diffdistill.report import pictures
from diffdistill.report.charts import validation_charts
from diffdistill.report.data import Grid, Run
from diffdistill.report.headline import figures, sentence
from diffdistill.report.pictures import embed, thin
from diffdistill.report.write import write_report
from diffdistill.runs.train import train


@HOOKS.register_module()
class StopAfter(Hook):
    """Ends the process, as far as a run can tell."""

    def __init__(self, step: int):
        self.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.step:
            raise RuntimeError("stopped")


STUDENT, TEACHER = dict(parameters=500, gmacs=0.25), dict(parameters=1000, gmacs=1.0)
RECORDS = [
    dict(model="teacher", step=0, accuracy=99.0, n=256.0),
    dict(model="student", step=0, accuracy=1.0, n=256.0),
    dict(model="student", step=50, accuracy=60.0, n=256.0),
    dict(model="student", step=100, accuracy=80.0, n=256.0),
]
SAMPLING = dict(teacher=3.2, student=1.6, device="a GPU", pixels="64×64", steps=25)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def page_of(run) -> str:
    return (run.work_dir / "report.html").read_text()


def test_the_page_needs_nothing_else(shapes_run):
    page = page_of(shapes_run)
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert not re.search(r"https?://|@import|url\(", re.sub(r"data:image/[^\"]*", "", page.split("the complete config")[0]))
    assert len(page) < 2_000_000
    assert page.count('src="data:image/') == 2  # the grids


def test_the_page_shows_the_figures_of_the_run(shapes_run):
    page = plain(html.unescape(page_of(shapes_run)))
    results = json.loads((shapes_run.work_dir / "results.json").read_text())
    assert f"{results['student']['parameters']:,}" in page
    assert f"{results['teacher']['parameters']:,}" in page
    assert f"After 6 steps the student reaches a caption accuracy of {results['validation'][-1]['accuracy']:.1f} %" in page
    for title in ("task loss", "output loss", "feature loss", "total loss", "learning rate", "throughput", "memory"):
        assert re.search(f"<b>{title}[^<]*</b>", page), title
    assert re.search(r"python \S*train\.py small_sd_xl_shapes\.py --work-dir", page)
    assert re.search(r"loss that was infinite or no number</th><td>0</td>", page)
    assert re.search(r"samples that were skipped</th><td>0</td>", page)
    assert "max_iters=6" in page
    assert "finished after 6 steps" in page


def test_the_headline_says_how_good_how_large_and_how_fast():
    run = Run(None, "run", results=dict(sampling=SAMPLING), validation=RECORDS)
    run.record = dict(network=dict(teacher=TEACHER, student=STUDENT, checkpoint="somewhere"))
    text = plain(sentence(run))
    assert "After 100 steps the student reaches a caption accuracy of 80.0 %, 19.0 points below its teacher (99.0 %)" in text
    assert "before training it was 1.0 % (n = 256)" in text
    assert "50 % of the teacher's parameters and needs 25 % of its operations" in text
    assert "A picture takes it 1.6 s where the teacher takes 3.2 s: 2.0 times as fast (25 sampler steps" in text
    assert "on a GPU" in text
    assert [plain(figure.value) for figure in figures(run)] == ["80.0 %", "50 %", "25 %", "2.0×"]
    assert figures(run)[0].share == pytest.approx(80 / 99)


def test_the_headline_says_what_is_not_known():
    """A run without validation, teacher and picture: sizes alone."""
    run = Run(None, "run", results=dict(teacher=dict(parameters=1000), student=dict(parameters=500)))
    assert plain(sentence(run)) == "It has 50 % of the teacher's parameters."
    run.results["sampling"] = dict(SAMPLING, teacher=None)
    assert plain(sentence(run)).endswith(
        "A picture takes it 1.6 s (25 sampler steps, 64×64 pixels, one at a time, on a GPU)."
    )
    assert sentence(Run(None, "run")) == ""
    run.validation = RECORDS[:2]
    assert plain(sentence(run)).startswith("The student is not trained yet: caption accuracy 1.0 %.")


def test_a_fine_tuning_has_no_teacher():
    records = [dict(model="base", step=0, accuracy=99.2), dict(model="fine-tuned", step=300, accuracy=96.9)]
    results = dict(base=dict(checkpoint="folder"), sampling=dict(SAMPLING, teacher=None))
    run = Run(None, "run", results=results, validation=records)
    text = sentence(run).replace("\N{NO-BREAK SPACE}", " ")
    assert text.startswith("After 300 steps the model reaches a caption accuracy of 96.9 %; before training it was 99.2 %.")
    details = [figure.detail.replace("\N{NO-BREAK SPACE}", " ") for figure in figures(run)]
    assert details[0] == "before training 99.2 %"
    assert "teacher" not in text + "".join(details)
    (chart,) = validation_charts(run)
    assert chart.lines[0].name.startswith("model")
    assert list(chart.lines[0].values) == [99.2, 96.9]


def test_text_is_escaped(shapes_run, tmp_path):
    run = shutil.copytree(shapes_run.work_dir, tmp_path / "run")
    record = json.loads((run / "report.json").read_text())
    evil = """</script><img src="x" onerror='alert(1)'> & {{ 7 * 7 }}"""
    record |= dict(name=evil, prompts=[evil], samples=1200, skipped_samples=3)
    record["skipped_steps"] = [dict(step=2, reason=evil, samples=[evil, "row 3"])]
    lines = [dict(source=evil, row=row, file=f"{row} {evil}\u2028\ud800", reason=evil, step=1) for row in (3, 4, 4, 5)]
    (run / "skipped.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    record["starts"][0] |= dict(command=evil, device=evil)
    (run / "report.json").write_text(json.dumps(record))
    page = write_report(run).read_text()
    assert "onerror='" not in page
    assert page.count("&lt;img src=&#34;x&#34;") >= 5
    assert "{{ 7 * 7 }}" in page
    assert re.search(r"samples that were skipped</th><td class=bad>3 of 1,200</td>", page)
    assert re.search(r"steps that were skipped</th><td class=bad>1</td>", page)
    assert len(re.findall(r"<li>row [345] \([345] &lt;", page)) == 3
    assert "<li>step 2: &lt;/script&gt;" in page


def test_many_large_grids_are_thinned_and_made_small(tmp_path, monkeypatch):
    Image.effect_noise((1400, 20), 90).save(tmp_path / "step_1.png")
    shown = embed([Grid(step, f"step {step}", tmp_path / "step_1.png") for step in range(1, 61)])
    assert (len(shown), shown[0]["step"], shown[-1]["step"]) == (40, 1, 60)
    picture = Image.open(io.BytesIO(base64.b64decode(shown[0]["uri"].partition(",")[2])))
    assert picture.size == (1280, 18)
    monkeypatch.setattr(pictures, "BUDGET", 10 * len(shown[0]["uri"]))
    shown = embed([Grid(step, f"step {step}", tmp_path / "step_1.png") for step in range(1, 61)])
    assert (len(shown), shown[0]["step"], shown[-1]["step"]) == (10, 1, 60)
    assert thin([1, 2, 3, 4, 5], 3) == [1, 3, 5]
    (tmp_path / "step_2.png").write_bytes((tmp_path / "step_1.png").read_bytes()[:1000])  # is being written
    assert embed([Grid(2, "step 2", tmp_path / "step_2.png")]) == []


def test_a_report_that_fails_does_not_end_a_training(thin_sdxl, tmp_path):
    (tmp_path / "run" / "report.html").mkdir(parents=True)  # so that no file can be put in its place
    (tmp_path / "run" / "20260101_000000").mkdir()  # of a run before, or this one would be refused
    ended = runs.trained("small_sd_xl_shapes_task_only.py", tmp_path / "run", runs.shapes(thin_sdxl))
    assert (ended.work_dir / "results.json").exists()
    assert re.search(r"WARNING - no report: IsADirectoryError", ended.out + ended.err)


def test_the_page_is_written_while_a_run_without_validation_trains(thin_sdxl, tmp_path):
    """With a validation it is written at each; here at every second step, until the run is stopped after the third."""
    changes = dict(train_cfg__max_iters=6, default_hooks__report__interval=2)
    options = runs.shapes(str(thin_sdxl), **changes) | {"custom_hooks": [dict(type="StopAfter", step=3)]}
    options["default_hooks__samples__prompts"] = ["a red circle"]
    options = {name.replace("__", "."): value for name, value in options.items()}
    with pytest.raises(RuntimeError, match="stopped"):
        train(load_config("small_sd_xl_shapes_task_only", options, str(tmp_path / "run")))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "step 2 of 6" in page
    assert "is not trained yet" in page


def test_the_tool_compares_runs(shapes_run, published_run, tmp_path):
    out = tmp_path / "both.html"
    ended = runs.tool("report", shapes_run.work_dir, published_run.work_dir, "--out", out)
    assert ended.code == 0, ended
    assert ended.out.strip() == str(out)
    page = plain(html.unescape(out.read_text()))
    assert "2 runs compared" in page
    assert "small_sd_xl_shapes" in page
    assert "ssd_1b_distill_from_sdxl_pokemon_blip" in page
    (chart,) = re.findall(r'<svg class="chart"[^>]*aria-label="task loss"[^>]*data-chart="(.*?)">', out.read_text())
    lines = json.loads(html.unescape(chart))["lines"]
    assert [line["steps"] for line in lines] == [[1, 2, 3, 4, 5, 6], [1, 2, 3]]
    assert [line["name"][:2] for line in lines] == ["A ", "B "]
    assert page.count('src="data:image/') == 2 + 2
    assert re.search(r"<th>measured by</th>\s*<td>[^<–]", page)
    cells = re.search(r"<th>parameters</th>(.*?)</tr>", page, re.DOTALL)[1]
    assert len(re.findall(r"<td>[\d.]+ [kM]</td>", cells)) == 2


def test_the_tool_writes_one_page_again(shapes_run, tmp_path):
    run = shutil.copytree(shapes_run.work_dir, tmp_path / "run")
    (run / "report.html").unlink()
    ended = runs.tool("report", run)
    assert ended.out.strip() == str(run / "report.html")
    assert "caption accuracy" in (run / "report.html").read_text()
    assert runs.tool("report", tmp_path).code == 2
    assert runs.tool("report", run, "--out", tmp_path / "nowhere" / "page.html").code == 2
