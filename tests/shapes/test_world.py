from collections import Counter
from hashlib import sha256

import numpy as np
import pytest

from diffdistill.errors import InputError
from diffdistill.shapes import oracle, world


def test_the_world_has_its_stated_size():
    assert len(world.ALL_CAPTIONS) == 2688
    assert (len(world.TRIPLES), len(world.HELD_OUT)) == (224, 24)


def test_held_out_triples_favour_no_attribute():
    for column, times in enumerate((6, 3, 3)):
        assert set(Counter(triple[column] for triple in world.HELD_OUT).values()) == {times}


def test_an_object_never_has_the_colour_of_its_background():
    assert all(colour != background for _, colour, background in [*world.HELD_OUT, *world.TRIPLES.tolist()])


def test_parse_inverts_caption():
    assert world.parse("a large red circle on a blue background at the left") == (0, 0, 2, 1, 1)
    assert world.parse("a small black cross on a white background") == (3, 7, 6, 0, None)
    assert all(world.parse(attributes.caption()) == attributes for attributes in world.ALL_CAPTIONS.values())


@pytest.mark.parametrize("caption", ["", "a photo of a dog", "a large red circle on a red background"])
def test_captions_of_another_world_are_refused_by_name(caption):
    with pytest.raises(InputError, match=repr(caption)):
        world.parse(caption)


def test_a_picture_depends_on_seed_and_index_alone():
    scenes = world.sample(3, [5, 900, 2**40])
    pictures, captions = world.draw(scenes), scenes.captions()
    for i, index in enumerate([5, 900, 2**40]):
        alone = world.sample(3, [index])
        np.testing.assert_array_equal(world.draw(alone)[0], pictures[i])
        assert alone.captions() == [captions[i]]
    assert (world.draw(world.sample(4, [5, 900, 2**40])) != pictures).any((1, 2, 3)).all()


def test_pictures_are_the_same_everywhere():
    """The stream of random words is fixed by NumPy; were this to change, so would every figure of the benchmark."""
    assert world.sample(0, range(3), "all").captions() == [
        "a large white triangle on a red background",
        "a small cyan cross on a yellow background at the bottom",
        "a large black triangle on a blue background",
    ]


def test_the_star_changed_no_picture_no_caption_and_no_reading():
    """Hashes of the world before it had a star: every recorded figure rests on them."""
    pictures = world.draw(world.sample(3, range(512), "all"))
    found = pictures.tobytes(), "\n".join(world.ALL_CAPTIONS).encode(), oracle.read(pictures).astype("int64").tobytes()
    assert [sha256(content).hexdigest()[:16] for content in found] == [
        "a371be7a7cb8745b",
        "7d57c56defb019a3",
        "63507e0a95e83477",
    ]


def test_stars_are_large_and_in_no_other_split():
    stars = world.stars(0, range(512))
    assert set(stars.captions()) <= world.STAR_CAPTIONS.keys()
    assert len(world.STAR_CAPTIONS) == 8 * 7 * 6
    assert not world.STAR_CAPTIONS.keys() & world.ALL_CAPTIONS.keys()
    assert (stars.radius >= world.RADIUS[1] - 1).all()
    assert all(world.parse(caption).caption() == caption for caption in world.STAR_CAPTIONS)


def test_a_star_has_five_points():
    angles = np.radians(-90 + 36 * np.arange(10)).astype(np.float32)
    for radius, inside in ((world.NOTCH * 0.97, [True] * 10), (world.NOTCH * 1.1, [True, False] * 5)):
        x, y = 15 * radius * np.cos(angles), 15 * radius * np.sin(angles)
        assert (world.distance(world.STAR, x, y, np.float32(15)) < 0).tolist() == inside


def test_splits_keep_to_their_triples():
    assert not any(attributes.held_out for attributes in world.sample(0, range(4096), "seen").attributes())
    assert all(attributes.held_out for attributes in world.sample(0, range(256), "held_out").attributes())
    both = {attributes.held_out for attributes in world.sample(0, range(256), "all").attributes()}
    assert both == {True, False}


def test_attributes_are_drawn_evenly_and_half_the_captions_say_the_position():
    scenes = world.sample(0, range(8192), "all")
    for name, classes in {"shape": 4, "colour": 8, "background": 8, "size": 2, "position": 5, "said": 2}.items():
        values = getattr(scenes, name)
        np.testing.assert_allclose(np.bincount(values, minlength=classes) / 8192, 1 / classes, atol=0.02)


def test_coverage_has_the_shape_s_area_and_centroid():
    n = len(world.KINDS)
    radius, centre = np.full(n, 15.0, np.float32), np.full((n, 2), 30.0, np.float32)
    cover = world.coverage(np.arange(n), centre, radius)
    area = cover.sum((1, 2)) * 4
    np.testing.assert_allclose(area, world.AREA * 15**2, rtol=0.02)
    at = np.arange(32) * 2 + 1
    np.testing.assert_allclose((cover.sum(1) * at).sum(1) * 4 / area, 30, atol=0.05)
    np.testing.assert_allclose((cover.sum(2) * at).sum(1) * 4 / area, 30 + world.CENTROID * 15, atol=0.15)


def test_a_picture_shows_its_two_colours():
    scenes = world.sample(0, range(64))
    pictures = world.draw(scenes).astype(float)
    np.testing.assert_allclose(pictures[:, 0, 0], scenes.rgb[:, 1], atol=0.51)
    x, y = (scenes.centre / 2).astype(int).T
    np.testing.assert_allclose(pictures[np.arange(64), y, x], scenes.rgb[:, 0], atol=0.51)
    assert (np.abs(scenes.rgb[:, 0] - world.RGB[scenes.colour]) <= world.COLOUR_JITTER).all()
