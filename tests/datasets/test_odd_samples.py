"""Odd pictures and captions: each is trained on as a viewer shows it, or skipped with a reason, never black by accident."""

import io
import json
import struct
import zlib
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from diffdistill.datasets import CaptionedImages, CaptionList
from diffdistill.errors import InputError
from diffdistill.families.text import encode

PIPELINE = [dict(type="ResizeCrop", size=32, crop="random"), dict(type="RandomFlip"), dict(type="PackInputs")]
SIZE = (48, 40)
ORANGE, GREY = (250, 130, 30), (130, 130, 130)
WHITE = (255, 255, 255)
NOT_READ = "it is no picture of a kind that can be read"


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(mode: str = "RGB", colour=ORANGE) -> Image.Image:
    return Image.new("RGB", SIZE, colour).convert(mode)


def grey(value: float, dtype: str) -> Image.Image:
    return Image.fromarray(np.full(SIZE[::-1], value, dtype=dtype))


def frames(kind: str) -> bytes:
    return saved(plain(), kind, save_all=True, append_images=[plain(colour=(0, 0, 0))], duration=9)


def palette(transparency) -> bytes:
    picture = Image.new("P", SIZE, 1)
    picture.putpalette([0, 0, 0, *ORANGE])
    return saved(picture, "PNG", transparency=transparency)


def png(width: int, height: int, depth: int, colour_type: int, pixels: bytes) -> bytes:
    """A PNG of kinds that Pillow does not write, from unfiltered rows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def sixteen(colour_type: int, *values: int) -> bytes:
    row = b"\0" + struct.pack(f">{len(values)}H", *(257 * value for value in values)) * SIZE[0]
    return png(*SIZE, 16, colour_type, row * SIZE[1])


def turned(kind: str, **options) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(plain(), kind, exif=exif, **options)


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


PICTURES = {
    "grey": (saved(plain("L", GREY), "PNG"), GREY),
    "grey with alpha": (saved(Image.merge("LA", [plain("L", GREY), Image.new("L", SIZE, 255)]), "PNG"), GREY),
    "grey, clear": (saved(Image.new("LA", SIZE, (0, 0)), "PNG"), WHITE),
    "one bit": (saved(Image.new("1", SIZE, 1), "PNG"), WHITE),
    "palette": (palette(0), ORANGE),
    "palette, clear": (palette(1), WHITE),
    "palette with alphas": (palette(bytes([255, 0])), WHITE),
    "alpha": (saved(Image.new("RGBA", SIZE, (*ORANGE, 255)), "PNG"), ORANGE),
    "alpha, clear": (saved(Image.new("RGBA", SIZE, (0, 0, 0, 0)), "PNG"), WHITE),
    "alpha in WebP": (saved(Image.new("RGBA", SIZE, (0, 0, 0, 0)), "WEBP", lossless=True), WHITE),
    "clear colour": (saved(plain(), "PNG", transparency=ORANGE), WHITE),
    "CMYK JPEG": (saved(plain("CMYK"), "JPEG"), ORANGE),
    "CMYK TIFF": (saved(plain("CMYK"), "TIFF"), ORANGE),
    "YCbCr TIFF": (saved(plain("YCbCr"), "TIFF"), ORANGE),
    "LAB TIFF": (saved(Image.new("LAB", SIZE, (200, 128, 128)), "TIFF"), (194, 194, 194)),
    "grey JPEG": (saved(plain("L", GREY), "JPEG"), GREY),
    "progressive JPEG": (saved(plain(), "JPEG", progressive=True), ORANGE),
    "JPEG 2000": (saved(plain(), "JPEG2000"), ORANGE),
    "BMP": (saved(plain(), "BMP"), ORANGE),
    "PPM": (saved(plain(), "PPM"), ORANGE),
    "ICO": (saved(plain(), "ICO"), ORANGE),
    "16-bit grey PNG": (sixteen(0, 130), GREY),
    "16-bit colour PNG": (sixteen(2, *ORANGE), ORANGE),
    "16-bit PNG with alpha": (sixteen(6, *ORANGE, 255), ORANGE),
    "16-bit grey PNG with alpha": (sixteen(4, 130, 255), GREY),
    "16-bit TIFF": (saved(grey(130 * 257, "uint16"), "TIFF"), GREY),
    "8 bits in a 16-bit TIFF": (saved(grey(130, "uint16"), "TIFF"), GREY),
    "32-bit TIFF": (saved(grey(130 * 257, "int32"), "TIFF"), GREY),
    "8 bits in a 32-bit TIFF": (saved(grey(130, "int32"), "TIFF"), GREY),
    "32-bit TIFF, too large": (
        saved(grey(2**20, "int32"), "TIFF"),
        "its values go from 1.04858e+06 to 1.04858e+06",
    ),
    "floats to 1": (saved(grey(130 / 255, "float32"), "TIFF"), GREY),
    "floats to 255": (saved(grey(130, "float32"), "TIFF"), GREY),
    "floats to 65535": (saved(grey(130 * 257, "float32"), "TIFF"), GREY),
    "floats below 0": (saved(grey(-1, "float32"), "TIFF"), "its values go from -1 to -1; 0 to 1, 0 to 255 or 0 to 65535"),
    "floats that are none": (saved(grey(np.nan, "float32"), "TIFF"), "its values go from nan to nan"),
    "GIF": (frames("GIF"), ORANGE),
    "moving WebP": (frames("WEBP"), ORANGE),
    "moving PNG": (frames("PNG"), ORANGE),
    "TIFF of two pages": (frames("TIFF"), ORANGE),
    "turned JPEG": (turned("JPEG"), ORANGE),
    "turned PNG": (turned("PNG"), ORANGE),
    "turned WebP": (turned("WEBP", lossless=True), ORANGE),
    "damaged EXIF": (saved(plain(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01"), ORANGE),
    "one column": (saved(Image.new("RGB", (1, 5000), ORANGE), "PNG"), ORANGE),
    "one row": (saved(Image.new("RGB", (5000, 1), ORANGE), "PNG"), ORANGE),
    "one pixel": (saved(Image.new("RGB", (1, 1), ORANGE), "PNG"), ORANGE),
    "a bomb": (png(20_000, 20_000, 1, 0, b""), "exceeds limit of 178956970 pixels"),
    "no pixels": (png(0, 0, 8, 2, b""), NOT_READ),
    "cut PNG": (cut(saved(noise(), "PNG")), "image file is truncated"),
    "cut JPEG": (cut(saved(noise(), "JPEG")), "image file is truncated"),
    "cut WebP": (cut(saved(noise(), "WEBP")), "could not create decoder object"),
    "cut GIF": (cut(saved(noise(), "GIF")), "truncated"),
    "EPS": (saved(plain(), "EPS"), NOT_READ),
    "PDF": (saved(plain(), "PDF"), NOT_READ),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', NOT_READ),
    "HTML": (b"<!DOCTYPE html><title>404 Not Found</title>", NOT_READ),
    "zip": (b"PK\3\4" + bytes(60), NOT_READ),
    "noughts": (bytes(5000), NOT_READ),
}


def table(file: Path, pictures: list[bytes], captions: list) -> CaptionedImages:
    """A parquet file of those pictures and captions; a good row stands behind them."""
    rows = dict(image=[*pictures, saved(plain(colour=(0, 0, 255)), "PNG")], text=[*captions, "a blue picture"])
    datasets.Dataset.from_dict(rows).to_parquet(file)
    return CaptionedImages(str(file), pipeline=PIPELINE)


@pytest.mark.parametrize("name", PICTURES)
def test_an_odd_picture_is_as_a_viewer_shows_it_or_skipped_with_a_reason(name, tmp_path):
    content, expected = PICTURES[name]
    item = table(tmp_path / "table.parquet", [content], ["a dog"])[0]
    assert item["pixel_values"].shape == (3, 32, 32)
    if isinstance(expected, str):
        (record,) = map(json.loads, item["skipped"].splitlines())
        assert expected in record["reason"]
        assert item["caption"] == "a blue picture"
    else:
        assert (item["skipped"], item["caption"]) == ("", "a dog")
        shown = (item["pixel_values"] + 1) * 127.5
        assert (shown - torch.tensor(expected)[:, None, None]).abs().max() < 8  # what JPEG may lose
        if name.startswith("turned"):
            assert item["time_ids"][:2].tolist() == list(SIZE)  # height and width, exchanged


CAPTIONS = {
    "empty": "",
    "blank": "  ",
    "long": "a very long dog " * 625,
    "one word": "d" * 10_000,
    "emoji": "a 🐕‍🦺 in 🌧️",
    "right to left": "כלב אדום \u202egod der a",
    "combining": "z\u0351\u036b\u0343" * 50,
    "control": "a\x07 red\x1b[31m dog\x7f",
    "lines": "a\ndog\r\nand\u2028a cat\tthere",
    "NUL": "a\0dog",
    "markup": "<script>alert(1)</script> <|endoftext|> {{ 7 * 7 }} %s",
    "no character": "\ufffe\uffff",
    "quotes": "\"a\" 'dog'; --",
    "word": "None",
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_an_odd_caption_arrives_as_it_is(name, tmp_path):
    assert table(tmp_path / "table.parquet", [PICTURES["BMP"][0]], [CAPTIONS[name]])[0]["caption"] == CAPTIONS[name]
    (tmp_path / "list.jsonl").write_text(json.dumps(dict(text=CAPTIONS[name])) + "\n")
    assert CaptionList(tmp_path / "list.jsonl")[0]["caption"] == CAPTIONS[name]


def test_odd_captions_are_encoded(tiny_sd, caplog):
    tokenizer = CLIPTokenizer.from_pretrained(tiny_sd / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(tiny_sd / "text_encoder")
    captions = list(CAPTIONS.values())
    assert encode(tokenizer, encoder, captions).last_hidden_state.isfinite().all()
    assert max(map(len, caplog.messages)) < 400  # a caption of 10,000 characters is not printed whole


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.jsonl", b'{"image": "a.png", "text": "\\ud800"}\n', "The surrogate pair in string is invalid. in row 0"),
        ("list.jsonl", b'{"image": "a.png", "text": "\xff"}\n', "list.jsonl: row 0: 'utf-8' codec can't decode byte 0xff"),
        ("list.csv", b"image,text\na.png,\xff\xfe\n", "codec can't decode byte 0xff"),
    ],
)
def test_a_table_that_is_no_unicode_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / "a.png").write_bytes(PICTURES["BMP"][0])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        CaptionedImages(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_caption_that_is_no_unicode_is_skipped(tmp_path):
    """Arrow takes the bytes of other programs for text without a look at them."""
    text = pa.Array.from_buffers(pa.string(), 2, [None, *pa.array([b"\xff\xfe", b"a dog"]).buffers()[1:]])
    picture = PICTURES["BMP"][0]
    pq.write_table(pa.table(dict(image=[picture, picture], text=text)), tmp_path / "table.parquet")
    item = CaptionedImages(str(tmp_path / "table.parquet"))[0]
    assert item["caption"] == "a dog"
    assert "can't decode byte 0xff" in item["skipped"]
