import numpy as np
import pytest
from PIL import Image, ImageFilter

from diffdistill.shapes import oracle, world

N = 2048


@pytest.fixture(scope="module")
def real() -> tuple[np.ndarray, list[str]]:
    scenes = world.sample(7, range(N), "all")
    return world.draw(scenes), scenes.captions()


def test_real_pictures_read_as_drawn(real):
    right = oracle.judge(*real)
    assert right["all"].mean() >= 0.995
    scenes = world.sample(7, range(N), "all")
    drawn = np.stack([scenes.shape, scenes.colour, scenes.background, scenes.size, scenes.position], 1)
    assert (oracle.read(real[0]) == drawn).mean() >= 0.999


def test_shuffled_captions_score_chance(real):
    images, captions = real
    order = np.random.default_rng(0).permutation(N)
    right = oracle.judge(images, [captions[i] for i in order])
    assert right["all"].mean() <= 0.03
    for name, chance in [("shape", 1 / 4), ("colour", 1 / 8), ("background", 1 / 8), ("size", 1 / 2)]:
        assert right[name].mean() == pytest.approx(chance, abs=0.05)


def _noise(images):
    return np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)


def _blur(images):
    return np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(3))) for image in images])


def _grey(images):
    return np.full_like(images, 128)


@pytest.mark.parametrize("spoil", [_noise, _blur, _grey])
def test_pictures_of_nothing_score_nothing(real, spoil):
    images, captions = real
    assert oracle.judge(spoil(images[:512]), captions[:512])["all"].mean() <= 0.01


def test_a_plain_background_has_no_object():
    plain = np.broadcast_to(world.RGB[:, None, None], (8, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(oracle.read(plain), [[-1, -1, colour, -1, -1] for colour in range(8)])


def test_one_wrong_attribute_fails_the_picture_and_no_other_attribute(real):
    image = world.draw(world.sample(0, [0], "all"))  # a large white triangle on a red background
    wrong = {
        "shape": "a large white circle on a red background",
        "colour": "a large black triangle on a red background",
        "background": "a large white triangle on a blue background",
        "size": "a small white triangle on a red background",
    }
    for name, caption in wrong.items():
        right = oracle.judge(image, [caption])
        assert [field for field in oracle.FIELDS if not right[field][0]] == [name]
        assert not right["all"][0]


def test_an_open_position_is_always_right_and_a_stated_one_is_read():
    scenes = world.sample(0, range(64))
    scenes.said[:] = True
    stated = scenes.attributes()
    images = world.draw(scenes)
    elsewhere = [attributes._replace(position=(attributes.position + 1) % 5) for attributes in stated]
    left_open = [attributes._replace(position=None) for attributes in stated]
    for every, share in [(stated, 1), (elsewhere, 0), (left_open, 1)]:
        captions = [attributes.caption() for attributes in every]
        assert oracle.judge(images, captions)["position"].mean() == share


def test_a_blob_between_two_shapes_is_no_shape():
    scenes = world.sample(0, range(64))
    half = world.draw(scenes)
    half[:, :, 16:] = np.rint(scenes.rgb[:, 1]).astype(np.uint8)[:, None, None]  # what lies to the right is cut away
    cut = np.abs(scenes.centre[:, 0] - 32) < 3  # in the middle
    assert (oracle.read(half[cut])[:, 0] == scenes.shape[cut]).mean() < 0.2


def test_no_pictures_give_no_answers():
    assert oracle.read(np.empty((0, 32, 32, 3), np.uint8)).shape == (0, 5)


def test_stars_are_read_as_stars_by_an_oracle_that_knows_them_and_as_nothing_by_one_that_does_not():
    scenes = world.stars(0, range(256))
    images = world.draw(scenes)
    assert oracle.judge(images, scenes.captions(), world.KINDS)["all"].mean() >= 0.995
    assert (oracle.read(images)[:, 0] == -1).mean() >= 0.995


def test_knowing_the_star_changes_no_reading_of_the_other_shapes(real):
    np.testing.assert_array_equal(oracle.read(real[0], world.KINDS), oracle.read(real[0]))
