"""The sample grid: what is where, read back from its pixels."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from diffdistill.sampling.grid import picture_grid, picture_in, wrap

RED, GREEN, BLUE, PINK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 255)


def plain(colour, size=(32, 32)):
    return Image.new("RGB", size, colour)


def box(grid, colour) -> tuple[int, int, int, int]:
    """Left, top, width and height of the only rectangle of `colour`."""
    rows, columns = np.nonzero((np.asarray(grid) == colour).all(-1))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert len(rows) == width * height, "something lies on top of the picture"
    return int(columns.min()), int(rows.min()), int(width), int(height)


def ink(grid) -> np.ndarray:
    """Where dark text stands, (height, width) of bool."""
    return (np.asarray(grid) < 100).all(-1)


def test_rows_and_columns_are_where_they_belong():
    grid = picture_grid([[plain(RED), plain(GREEN)], [plain(BLUE), plain(PINK)]], ["teacher", "student"], ["one", "two"])
    red, green, blue, pink = (box(grid, colour) for colour in (RED, GREEN, BLUE, PINK))
    assert red[1] == green[1] < blue[1] == pink[1]
    assert red[0] == blue[0] < green[0] == pink[0]
    text = ink(grid)
    assert text[red[1] : red[1] + red[3], : red[0]].any()  # the label, left of its row
    assert text[: red[1], red[0] : red[0] + red[2]].any()  # the caption, above its column
    assert not text[red[1] :, red[0] :].any()  # and nothing between the pictures


@pytest.mark.parametrize(
    ("size", "shown"),
    [((32, 32), (128, 128)), ((100, 50), (200, 100)), ((128, 96), (128, 96)), ((300, 300), (300, 300))]
    + [((1024, 1024), (512, 512)), ((512, 1024), (256, 512)), ((1, 1), (128, 128))],
)
def test_pictures_are_shown_at_a_decent_size(size, shown):
    assert box(picture_grid([[plain(RED, size)]], ["student"], ["a caption"]), RED)[2:] == shown


def test_each_small_pixel_becomes_a_square_of_its_exact_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    left, top, width, height = box(picture_grid([[plain(RED)]], ["teacher"], ["noise"]), RED)
    grid = np.asarray(picture_grid([[pixels]], ["teacher"], ["noise"]))
    assert np.array_equal(grid[top : top + height, left : left + width], pixels.repeat(4, 0).repeat(4, 1))


def test_captions_wrap_inside_their_column_and_are_cut():
    long = "a portrait of a knight in ornate armour at the golden hour " * 5
    unbroken = "x" * 500
    grid = picture_grid([[plain(RED), plain(GREEN), plain(BLUE)]], ["student"], [long, unbroken, "short"])
    boxes = [box(grid, colour) for colour in (RED, GREEN, BLUE)]
    above = ink(grid)[: boxes[0][1]].any(0)
    for left, right in ((boxes[0][0] + 128, boxes[1][0]), (boxes[1][0] + 128, boxes[2][0]), (boxes[2][0] + 128, grid.width)):
        assert not above[left:right].any()
    assert boxes[0][1] < 170  # five lines at the most


def test_title_and_footer_fit_and_take_no_room_when_absent():
    bare = picture_grid([[plain(RED)]], ["student"], ["a dog"])
    title, footer = "a title that is much wider than the only picture below it", "and a footer that is wide, too " * 4
    full = picture_grid([[plain(RED)]], ["student"], ["a dog"], title=title, footer=footer)
    assert full.width > bare.width
    assert full.height > bare.height
    assert (np.asarray(full)[:, -20:] == 255).all()  # the margin stays free
    assert box(full, RED)[2:] == (128, 128)


def test_a_white_picture_has_an_edge():
    grid = picture_grid([[plain("white")]], [""], [""])
    assert (np.asarray(grid) < 255).any()


@pytest.mark.parametrize(
    ("rows", "labels", "captions"),
    [
        ([[RED]], ["a", "b"], ["x"]),
        ([[RED]], ["a"], ["x", "y"]),
        ([[RED], []], ["a", "b"], ["x"]),
        ([], [], []),
        ([[]], ["a"], []),
    ],
)
def test_counts_that_disagree_are_refused(rows, labels, captions):
    with pytest.raises(ValueError, match="do not fit rows of"):
        picture_grid([[plain(colour) for colour in row] for row in rows], labels, captions)


def test_details_stand_in_grey_below_the_name():
    grid = picture_grid([[plain(RED)]], ["student\n1.46 M parameters"], ["a dog"])
    left, top, _, height = box(grid, RED)
    label = np.asarray(grid)[top : top + height, : left - 1]
    dark, grey = ((label == colour).all(-1).any(1).nonzero()[0] for colour in ((28, 28, 30), (110, 110, 115)))
    assert dark.max() < grey.max()
    assert 0.5 * height == pytest.approx((dark.min() + grey.max()) / 2, abs=0.1 * height)


@pytest.mark.parametrize(("size", "shown"), [((32, 32), (128, 128)), ((48, 32), (144, 96)), ((600, 300), (512, 256))])
def test_the_last_rows_first_picture_is_found_again(size, shown):
    """Whatever colours the pictures have, a title and a footer stand around them, and captions are long."""
    rows = [[plain(RED, size), plain(GREEN, size)], [plain("#d8d8dc", size), plain(BLUE, size)]]
    rows[1][0].paste(PINK, (4, 4, 9, 9))
    grid = picture_grid(rows, ["teacher", "student, step 6"], ["a " * 60, "b"], "A title", "a footer " * 9)
    found = picture_in(grid)
    assert found.size == shown
    colours = {colour for _, colour in found.getcolors(2**24)}
    assert PINK in colours
    assert not colours & {RED, GREEN, BLUE}


def test_names_break_at_their_joints():
    font = ImageFont.load_default(13)
    width = round(font.getlength("sdxl_shapes_one_st"))
    assert wrap("sdxl_shapes_one_step and more", font, width) == ["sdxl_shapes_one_", "step and more"]
    assert max(map(font.getlength, wrap("x" * 50, font, width))) <= width
    assert "".join(wrap("a/b-c_" * 20, font, width)) == "a/b-c_" * 20
