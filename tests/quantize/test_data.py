"""Samples: every source, every broken source, the sample photographs, and the preprocessing of each model family."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from exporter.errors import DataError, UsageError
from exporter.quantize.data import Pictures, default_samples_dir, load_samples
from exporter.quantize.preprocess import Preprocess, rgb

SMALL = Preprocess(size=(8, 12), mean=(0, 0, 0), std=(1, 1, 1))


def picture(path: Path, colour: tuple[int, int, int] = (200, 100, 50), size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def photo(path: Path) -> Path:
    """A picture with enough detail that half of its file is not all of it."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# Folders


def test_folder_is_read_recursively_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "sub/c.PNG", ".hidden/d.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    samples = load_samples(tmp_path, SMALL)
    assert samples.names == ("a.jpg", "b.png", "sub/c.PNG")
    tensors = list(samples)
    assert [x.shape for x in tensors] == [(1, 3, 8, 12)] * 3
    assert all(x.dtype == torch.float32 for x in tensors)


def test_limit_spreads_evenly_over_the_names(tmp_path: Path) -> None:
    for i in range(10):
        picture(tmp_path / f"{i}.png")
    samples = load_samples(tmp_path, SMALL, limit=4)
    assert samples.names == ("0.png", "2.png", "5.png", "7.png")
    assert (len(samples), samples.available) == (4, 10)
    assert len(load_samples(tmp_path, SMALL, limit=99)) == 10


def test_samples_can_be_read_again_and_keep_their_order(tmp_path: Path) -> None:
    for i in range(9):
        picture(tmp_path / f"{i}.png", (i * 20, 0, 0))
    samples = load_samples(tmp_path, SMALL)
    reds = [round(x[0, 0, 0, 0].item() * 255) for x in samples]
    assert reds == [i * 20 for i in range(9)]
    assert [round(x[0, 0, 0, 0].item() * 255) for x in samples] == reds


def test_sha256_follows_names_and_contents_but_not_the_folder(tmp_path: Path) -> None:
    folders = ("one", "two", "renamed", "changed")
    for folder in folders:
        picture(tmp_path / folder / ("b.png" if folder == "renamed" else "a.png"), (folder == "changed", 0, 0))
    one, two, renamed, changed = (
        load_samples(tmp_path / f, SMALL).sha256 for f in ("one", "two", "renamed", "changed")
    )
    assert one == two
    assert len({one, renamed, changed}) == 3


def test_decoding_runs_ahead_in_a_thread_that_ends_with_the_loop(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / f"{i:02}.png")
    for _ in load_samples(tmp_path, SMALL):
        assert any(t.name.startswith("samples") for t in threading.enumerate())
        break
    assert not any(t.name.startswith("samples") for t in threading.enumerate())


def test_memory_is_flat_in_the_number_of_pictures(tmp_path: Path) -> None:
    for i in range(40):
        picture(tmp_path / f"{i:02}.png")
    large = Preprocess(size=(256, 256))

    tracemalloc.start()
    for _ in load_samples(tmp_path, large):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 * 256 * 256 * 3 * 4  # of 40 samples: those read ahead, and the copies of one being made


# Broken pictures


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_samples(tmp_path / "nowhere", SMALL)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pictures in .*\n.*the folder is empty"):
        load_samples(tmp_path, SMALL)


def test_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    with pytest.raises(DataError, match=r"no pictures in .*\n.*1 \.heic"):
        load_samples(tmp_path, SMALL)


def test_files_that_are_no_pictures_are_all_named_before_the_first_is_decoded(tmp_path: Path) -> None:
    picture(tmp_path / "fine.png")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "void.png").touch()
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path, SMALL)
    assert caught.value.what == f"2 of 3 pictures in {tmp_path} cannot be read"
    assert caught.value.where == ("text.jpg  is not a picture", "void.png  is empty")
    assert caught.value.why == "the other 1 are fine"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_truncated_pictures_are_all_named_when_one_is_met(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b", "c", "d"):
        photo(tmp_path / f"{name}.{suffix}")
    truncate(tmp_path / f"b.{suffix}")
    truncate(tmp_path / f"d.{suffix}")
    with pytest.raises(DataError) as caught:
        list(load_samples(tmp_path, SMALL))
    assert caught.value.what.startswith("2 of 4 pictures")
    assert [line.split()[0] for line in caught.value.where] == [f"b.{suffix}", f"d.{suffix}"]
    assert caught.value.exit_code == 3


def test_float_tiff_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="32-bit float"):
        list(load_samples(tmp_path, SMALL))


def test_a_single_picture_points_to_its_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give its folder"):
        load_samples(picture(tmp_path / "a.png"), SMALL)


def test_limit_below_one_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not 0"):
        load_samples(tmp_path, SMALL, limit=0)


# COCO


def coco(path: Path, names: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": 7 + i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)]
    boxes = [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5]}]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cup"}]}))
    return path


@pytest.mark.parametrize("folder", [".", "images"])
def test_coco_pictures_lie_beside_the_json_or_in_images(tmp_path: Path, folder: str) -> None:
    for name in ("b.png", "a.png"):
        picture(tmp_path / folder / name)
    samples = load_samples(coco(tmp_path / "labels.json", ["b.png", "a.png"]), SMALL)
    assert isinstance(samples, Pictures)
    assert samples.names == ("a.png", "b.png")
    assert samples.image_ids == (8, 7)
    assert samples.coco["annotations"][0]["image_id"] == 7
    assert next(iter(samples)).shape == (1, 3, 8, 12)


def test_coco_release_layout(tmp_path: Path) -> None:
    picture(tmp_path / "val2017" / "1.png")
    listed = coco(tmp_path / "annotations" / "instances_val2017.json", ["1.png"])
    assert load_samples(listed, SMALL).names == ("1.png",)


def test_coco_pictures_that_are_missing_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"1 of 2 pictures of .* are missing\n  gone\.png"):
        load_samples(coco(tmp_path / "labels.json", ["a.png", "gone.png"]), SMALL)


@pytest.mark.parametrize("text", ["[]", "{}", '{"images": []}', '{"images": [{"id": 1}]}', '{"images": [3]}'])
def test_json_that_is_not_coco(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="is not a COCO file"):
        load_samples(tmp_path / "a.json", SMALL)


def test_file_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{oops")
    with pytest.raises(DataError, match="is not JSON"):
        load_samples(tmp_path / "a.json", SMALL)


# Arrays


def test_npy_rows_are_the_samples(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 3, 8, 12)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    samples = load_samples(tmp_path / "a.npy", SMALL, limit=2)
    assert samples.names == ("a.npy[0]", "a.npy[2]")
    assert np.array_equal(np.concatenate([x.numpy() for x in samples]), array[[0, 2]])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_for_one_input_may_call_it_anything(tmp_path: Path, save) -> None:
    array = np.random.default_rng(0).normal(size=(5, 3, 8, 12)).astype(np.float32)
    save(tmp_path / "a.npz", whatever=array)
    assert np.array_equal(torch.cat(list(load_samples(tmp_path / "a.npz", SMALL))).numpy(), array)


def test_npz_feeds_several_inputs_by_name(tmp_path: Path) -> None:
    left, right = np.ones((2, 3, 8, 12), np.float32), np.zeros((2, 5), np.float32)
    np.savez(tmp_path / "a.npz", right=right, left=left)
    samples = load_samples(tmp_path / "a.npz", SMALL, inputs={"left": (1, 3, 8, 12), "right": (1, 5)})
    assert [[tuple(x.shape) for x in feed] for feed in samples.feeds()] == [[(1, 3, 8, 12), (1, 5)]] * 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 8, 12)), "is float64, not float32"),
        (np.zeros((2, 3, 8, 12), np.uint8), "uint8 pictures belong in a folder"),
        (np.zeros((2, 8, 12, 3), np.float32), r"shape \[2, 8, 12, 3\](.|\n)*transpose\(0, 3, 1, 2\)"),
        (np.zeros((3, 8, 12), np.float32), r"array\[None\]"),
        (np.zeros((2, 3, 9, 12), np.float32), "preprocess to the model's input size"),
        (np.zeros((0, 3, 8, 12), np.float32), r"shape \[0, 3, 8, 12\]"),
        (np.float32(1), r"shape \[\]"),
        (np.full((2, 3, 8, 12), np.nan, np.float32), "sample 0 .* holds NaN or infinity"),
        (np.full((2, 3, 8, 12), np.inf, np.float32), "sample 0 .* holds NaN or infinity"),
        (np.asfortranarray(np.zeros((2, 3, 8, 12), np.float32)), "Fortran order"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message):
        load_samples(tmp_path / "a.npy", SMALL)


def test_pickled_array_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled Python objects"):
        load_samples(tmp_path / "a.npy", SMALL)
    assert not (tmp_path / "ran").exists()


def test_npz_without_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    with pytest.raises(DataError, match="holds no arrays"):
        load_samples(tmp_path / "a.npz", SMALL)


def test_npz_that_lacks_an_input_offers_the_nearest_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", imgae=np.zeros((1, 3, 8, 12), np.float32), other=np.zeros((1, 2), np.float32))
    with pytest.raises(DataError, match=r"no array for image(.|\n)*did you mean image\?"):
        load_samples(tmp_path / "a.npz", SMALL, inputs={"image": (1, 3, 8, 12), "other": (1, 2)})


def test_npz_whose_inputs_differ_in_count(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros((1, 2), np.float32), b=np.zeros((3, 2), np.float32))
    with pytest.raises(DataError, match="differ in their number of samples"):
        load_samples(tmp_path / "a.npz", SMALL, inputs={"a": (1, 2), "b": (1, 2)})


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_file_that_is_no_numpy_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"neither zip nor numpy")
    with pytest.raises(DataError, match=r"is not an? "):
        load_samples(tmp_path / name, SMALL)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz(tmp_path: Path, save) -> None:
    buffer = io.BytesIO()
    save(buffer, a=np.random.default_rng(0).normal(size=(4, 3, 8, 12)).astype(np.float32))
    damaged = bytearray(buffer.getvalue())
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"a\.npz, array a is corrupt"):
        load_samples(tmp_path / "a.npz", SMALL)


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 3, 8, 12), np.float32))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-4])
    with pytest.raises(DataError, match="ends early, at sample 2 of 3"):
        load_samples(tmp_path / "a.npy", SMALL)


def test_pictures_cannot_fill_two_inputs(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match="2 inputs"):
        load_samples(tmp_path, SMALL, inputs={"a": (1, 3, 8, 12), "b": (1, 2)})


# Preprocessing


def gradient(width: int, height: int) -> Image.Image:
    """Red runs from left to right, green from top to bottom, in steps of one."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 9)], -1).astype(np.uint8))


def codes(x: torch.Tensor, p: Preprocess) -> np.ndarray:
    """The 8-bit pixels [height, width, 3] behind a normalised input."""
    mean, std = torch.tensor(p.mean).reshape(3, 1, 1), torch.tensor(p.std).reshape(3, 1, 1)
    return ((x * std + mean) * 255).round().permute(1, 2, 0).numpy().astype(int)


def test_normalisation_is_the_mean_and_deviation_per_rgb_channel() -> None:
    p = Preprocess(size=(1, 1), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    x = p.apply(Image.new("RGB", (1, 1), (255, 0, 51)))
    assert torch.allclose(x.flatten(), torch.tensor([1.0, -1.0, 0.1]))


def test_letterbox_pastes_top_left_and_pads_with_exact_zeros() -> None:
    p = Preprocess(size=(8, 8), resize="letterbox")
    x = p.apply(Image.new("RGB", (40, 20), (255, 0, 0)))
    assert (codes(x[:, :4], p) == [255, 0, 0]).all()
    assert (x[:, 4:] == 0).all()


def test_letterbox_pads_with_a_colour_when_asked() -> None:
    p = Preprocess(size=(8, 8), resize="letterbox", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fill=(0, 0, 0))
    x = p.apply(Image.new("RGB", (20, 40), "white"))
    assert (x[:, :, :4] == 1).all()
    assert (x[:, :, 4:] == -1).all()


def test_crop_cuts_the_centre() -> None:
    p = Preprocess(size=(4, 4), resize="crop", interpolation="nearest")
    assert codes(p.apply(gradient(10, 4)), p)[0, :, 0].tolist() == [3, 4, 5, 6]
    assert codes(p.apply(gradient(4, 10)), p)[:, 0, 1].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(("fraction", "shorter"), [(0.9, 248), (0.887, 252), (1.0, 224)])
def test_crop_fraction_resizes_the_shorter_side_first(fraction: float, shorter: int) -> None:
    p = Preprocess(size=(224, 224), resize="crop", interpolation="bicubic", crop_fraction=fraction)
    assert p._target(640, 480) == (int(shorter * 640 / 480), shorter)
    assert p._target(480, 640) == (shorter, int(shorter * 640 / 480))
    assert p.apply(gradient(200, 150)).shape == (3, 224, 224)


def test_stretch_ignores_the_aspect() -> None:
    p = Preprocess(size=(6, 4), resize="stretch", interpolation="nearest")
    assert codes(p.apply(gradient(8, 6)), p)[0, :, 0].tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 5)])
def test_any_picture_size_gives_the_input_size(resize: str, size: tuple[int, int]) -> None:
    x = Preprocess(size=(16, 24), resize=resize).apply(Image.new("RGB", size))
    assert x.shape == (3, 16, 24)
    assert x.isfinite().all()


def test_settings_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(ValidationError, match="crop_fraction needs resize: crop"):
        Preprocess(size=(8, 8), crop_fraction=0.9)
    with pytest.raises(ValidationError, match="fill needs resize: letterbox"):
        Preprocess(size=(8, 8), fill=(0, 0, 0))
    with pytest.raises(ValidationError, match="Extra inputs"):
        Preprocess(size=(8, 8), colour="bgr")


def encoded(image: Image.Image, kind: str, **options) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    upright = rgb(encoded(gradient(4, 2), "PNG", exif=exif))
    assert upright.size == (2, 4)
    assert np.array_equal(np.asarray(upright), np.rot90(np.asarray(gradient(4, 2)), -1))


def test_every_pixel_format_becomes_8_bit_rgb() -> None:
    grey16 = Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))
    clear = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    half = Image.new("LA", (1, 1), (0, 128))
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    cases = {
        "grey": (encoded(Image.new("L", (1, 1), 77), "PNG"), [[77, 77, 77]]),
        "16-bit grey": (encoded(grey16, "PNG"), [[0] * 3, [1] * 3, [128] * 3, [255] * 3]),
        "bilevel": (encoded(Image.new("1", (1, 1), 1), "PNG"), [[255] * 3]),
        "palette": (encoded(palette, "PNG"), [[0, 0, 255]]),
        "clear palette": (encoded(palette, "PNG", transparency=1), [[255] * 3]),
        "clear": (encoded(clear, "PNG"), [[255] * 3]),
        "half clear grey": (encoded(half, "PNG"), [[127] * 3]),
        "CMYK": (encoded(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF"), [[255, 0, 0]]),
    }
    for name, (image, pixels) in cases.items():
        assert np.asarray(rgb(image))[0].tolist() == pixels, name


# The sample photographs


def test_manifest_lists_every_photograph_with_its_hash_size_and_licence() -> None:
    folder = default_samples_dir()
    listed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert {entry["file"] for entry in listed} == {p.name for p in folder.iterdir()} - {"manifest.json", "README.md"}
    licences = {"public domain", "CC0-1.0", "CC-BY-2.0", "CC-BY-4.0", "CC-BY-SA-4.0"}
    for entry in listed:
        path = folder / entry["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"], entry["file"]
        with Image.open(path) as image:
            assert image.size == (entry["width"], entry["height"]), entry["file"]
        assert entry["licence"] in licences
        assert entry["author"]
        assert entry["source"]


def test_sample_photographs_are_32_all_decode_and_stay_small() -> None:
    samples = load_samples(default_samples_dir(), Preprocess(size=(64, 64), resize="letterbox"))
    assert len(samples) == 32
    assert sum(1 for x in samples if x.std() > 0.05) == 32
    assert sum(path.stat().st_size for path in default_samples_dir().iterdir()) < 3_000_000
