"""The picture of the U-Net: one mark a layer, filled where the student keeps it."""

import xml.etree.ElementTree as ET

import pytest

from diffdistill.config.check import check_model
from diffdistill.config.read import load_config
from diffdistill.families.architectures import planning
from diffdistill.report.network import columns_of, network_picture
from diffdistill.students.cut import build_on_meta
from diffdistill.students.size import kept_layers


@pytest.fixture(scope="module")
def ssd_1b() -> dict:
    """SDXL's layers, and whether SSD-1B keeps them."""
    model = load_config("ssd_1b_distill_from_sdxl_pokemon_blip").model
    model.losses = dict()  # leaves out the feature pairs
    with planning():
        plan = check_model(model)
    return kept_layers(build_on_meta(plan.family.denoiser_class, plan.family.denoiser_config), plan.layers)


def marks(svg: ET.Element, kind: str, style: str) -> list[ET.Element]:
    return [mark for mark in svg.iter(kind) if mark.get("class") == style]


def test_marks_are_the_published_layers(ssd_1b):
    """70 -> 34 transformer layers and 17 -> 16 ResNets (Gupta et al., 2024, and the model's config)."""
    svg = ET.fromstring(str(network_picture(ssd_1b)))
    assert len(marks(svg, "rect", "kept")) == 34
    assert len(marks(svg, "rect", "dropped")) == 36
    assert len(marks(svg, "circle", "kept")) == 16
    assert len(marks(svg, "circle", "dropped")) == 1
    assert "50 layers kept of 87" in svg.get("aria-label")
    names = {title.text for title in svg.iter("title")}
    assert "down_blocks.2.attentions.1.transformer_blocks.9: dropped" in names


def test_stages_go_down_and_up_again(ssd_1b):
    svg = ET.fromstring(str(network_picture(ssd_1b)))
    stages = marks(svg, "rect", "stage")
    lefts, tops = ([float(stage.get(name)) for stage in stages] for name in ("x", "y"))
    assert [text.text for text in svg.iter("text") if text.get("class") == "name"] == [
        "down 0", "down 1", "down 2", "mid", "up 0", "up 1", "up 2",
    ]  # fmt: skip
    assert lefts == sorted(lefts)
    assert tops[:4] == sorted(tops[:4])
    assert tops[:3] == tops[:3:-1]  # down i is as deep as its partner on the way up
    width, height = map(float, svg.get("viewBox").split()[2:])
    assert all(float(s.get("x")) + float(s.get("width")) <= width + 1 for s in stages)
    assert all(float(s.get("y")) + float(s.get("height")) <= height for s in stages)
    assert width < 560  # marks stay larger than 5 pixels on a phone


def test_a_resnet_stands_above_its_transformer_layers(ssd_1b):
    columns = columns_of(ssd_1b["mid_block"])
    assert [[name.rsplit(".", 2)[-2] for name, _ in column] for column in columns] == [
        ["resnets", *["transformer_blocks"] * 10],
        ["resnets"],
    ]


@pytest.mark.parametrize(("number", "rows"), [(4, [4]), (24, [12, 12]), (38, [19, 19]), (60, [20, 20, 20])])
def test_blocks_of_a_transformer_stand_in_rows_of_one_length(number, rows):
    kept = {f"transformer_blocks.{index}": index % 2 == 0 for index in range(number)}
    columns = columns_of(kept)
    assert [sum(len(column) > row for column in columns) for row in range(len(columns[0]))] == rows
    assert [name for row in zip(*columns, strict=True) for name, _ in row] == list(kept)
    svg = ET.fromstring(str(network_picture({"transformer_blocks": kept})))
    (stage,) = marks(svg, "rect", "stage")
    assert [text.text for text in svg.iter("text")] == ["transformer blocks", f"{-(-number // 2)}/{number}"]
    assert float(stage.get("width")) >= 7 * len("transformer blocks")  # else the heading would be cut off
