import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from diffdistill.datasets import CaptionedImages, DreamBoothDataset
from diffdistill.datasets.shapes import ShapesCaptions, ShapesDataset, StarCaptions
from diffdistill.errors import InputError
from diffdistill.registry import DATASETS, TRANSFORMS
from diffdistill.shapes import oracle, world


def test_items_have_the_promised_tensors():
    item = ShapesDataset(seed=1, length=10)[3]
    assert set(item) == {"pixel_values", "caption", "time_ids", "sample"}
    assert item["sample"] == "picture 3"
    assert item["pixel_values"].shape == (3, 32, 32)
    assert item["pixel_values"].dtype == item["time_ids"].dtype == torch.float32
    assert -1 <= item["pixel_values"].min() < item["pixel_values"].max() <= 1
    assert item["time_ids"].tolist() == [32, 32, 0, 0, 32, 32]


def test_a_batch_equals_its_single_items():
    dataset = ShapesDataset(seed=1, length=100)
    for together, index in zip(dataset.__getitems__([7, 99, 0]), [7, 99, 0], strict=True):
        alone = dataset[index]
        assert together["caption"] == alone["caption"]
        torch.testing.assert_close(together["pixel_values"], alone["pixel_values"], rtol=0, atol=0)


def test_pictures_show_their_captions():
    items = ShapesDataset(length=256).__getitems__(list(range(256)))
    images = ((torch.stack([item["pixel_values"] for item in items]) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    assert oracle.judge(images, [item["caption"] for item in items])["all"].all()


def test_held_out_triples_never_come_up_in_training():
    items = ShapesDataset(length=4096).__getitems__(list(range(4096)))
    assert not any(world.parse(item["caption"]).held_out for item in items)


def test_seeds_give_other_pictures_and_the_same_seed_the_same():
    first, again, other = (ShapesDataset(seed=seed)[0]["pixel_values"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_workers_deliver_the_same_batches():
    dataset = ShapesDataset(length=24)
    here, there = ([batch["pixel_values"] for batch in DataLoader(dataset, 8, num_workers=n)] for n in (0, 1))
    assert torch.equal(torch.cat(here), torch.cat(there))


def test_the_pipeline_is_applied_in_order():
    class Append:
        def __init__(self, text: str):
            self.text = text

        def __call__(self, item: dict) -> dict:
            return {**item, "caption": item["caption"] + self.text}

    TRANSFORMS.register_module(name="AppendForThisTest", module=Append, force=True)
    pipeline = [{"type": "AppendForThisTest", "text": text} for text in "12"]
    dataset = DATASETS.build({"type": "ShapesDataset", "length": 4, "pipeline": pipeline})
    assert dataset[0]["caption"] == ShapesDataset(length=4)[0]["caption"] + "12"


def test_the_end_is_the_end():
    dataset = ShapesDataset(length=3)
    assert len(list(dataset)) == len(dataset) == 3
    with pytest.raises(IndexError):
        dataset[-1]


@pytest.mark.parametrize("kind", [ShapesDataset, ShapesCaptions, StarCaptions])
def test_an_empty_set_is_refused(kind):
    with pytest.raises(InputError, match="length=0"):
        kind(length=0)


def test_validation_captions_are_half_held_out_and_all_different():
    items = list(ShapesCaptions(length=256, seed=0))
    assert all(item["seen"] != world.parse(item["caption"]).held_out for item in items)
    assert [item["seen"] for item in items] == [True, False] * 128
    assert len({item["caption"] for item in items}) == len({item["seed"] for item in items}) == 256


def test_captions_repeat_only_after_all_have_come():
    held_out = [item["caption"] for item in ShapesCaptions(length=1200) if not item["seen"]]
    assert len(held_out) == 600
    assert len(set(held_out[:288])) == len(set(held_out[288:576])) == 288  # 24 triples, 2 sizes, 5 positions or none


def test_validation_captions_follow_the_seed():
    assert list(ShapesCaptions(32, seed=1)) == list(ShapesCaptions(32, seed=1))
    one, other = ([item["caption"] for item in ShapesCaptions(32, seed=seed)] for seed in (1, 2))
    assert one != other


def test_star_captions_come_after_the_old_ones_with_noise_of_their_own():
    old, items = list(ShapesCaptions(6, seed=3)), list(StarCaptions("sks", stars=4, length=6, seed=3))
    assert [{key: item[key] for key in old[0]} for item in items[:6]] == old
    assert [item["star"] for item in items] == [False] * 6 + [True] * 4
    assert all(item["shows"] == item["caption"] for item in items[:6])
    for item in items[6:]:
        assert item["shows"] in world.STAR_CAPTIONS
        assert item["caption"] == item["shows"].replace("star", "sks")
    assert len({item["seed"] for item in items}) == 10
    with pytest.raises(InputError, match="stars=0"):
        StarCaptions(stars=0)


def test_the_packaged_star_pictures_are_five_stars_of_different_colours():
    items = list(CaptionedImages("diffdistill::star_pictures"))
    stars = world.stars(0, [178, 306, 436, 319, 539])
    assert len(set(stars.colour)) == len(set(stars.background)) == len(set(stars.position)) == 5
    np.testing.assert_array_equal([np.asarray(item["image"]) for item in items], world.draw(stars))
    assert [item["caption"] for item in items] == [caption.replace("star", "s") for caption in stars.captions()]
    assert len(DreamBoothDataset("diffdistill::star_pictures", "a s")) == 5
