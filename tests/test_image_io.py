"""Photographs as people have them, made here."""

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from bloodcells.errors import UserError
from bloodcells.image_io import MAX_PIXELS, read_image, scale_to_8_bits


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)


def write_png(path, size, *, bits=8):
    """Write a PNG that says it has a size; its data are those of another."""
    header = struct.pack(">IIBBBBB", *size, bits, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("a.png", {}),
            ("a.bmp", {}),
            ("a.tif", {}),
            ("a.tif", {"compression": "tiff_lzw"}),
            ("a.tiff", {"compression": "tiff_adobe_deflate"}),
            ("a.tif", {"compression": "packbits"}),
            ("wrong ending.jpg", {"format": "PNG"}),
            ("Ünnamed", {"format": "BMP"}),
        ],
    )
    def test_rgb(self, tmp_path, image, name, options):
        Image.fromarray(image).save(tmp_path / name, **options)
        found = read_image(tmp_path / name)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, image)

    @pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}])
    @pytest.mark.parametrize("bits", [8, 16])
    def test_tiff_layouts(self, tmp_path, image, options, bits):
        stored = image if bits == 8 else image.astype(np.uint16) * 257
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_tiff_of_separate_colours(self, tmp_path, image, bits):
        stored = np.moveaxis(image if bits == 8 else image.astype(np.uint16) * 257, -1, 0)
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig="separate")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)

    def test_deflated_tiff_of_separate_colours(self, tmp_path, image):
        stored = np.moveaxis(image.astype(np.uint16) * 257, -1, 0)
        options = {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 2}
        tifffile.imwrite(tmp_path / "a.tif", stored, compression="zlib", **options)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), image)

    def test_grey_tiff_that_claims_separate_colours(self, tmp_path, image):
        """Of one colour the layout says nothing."""
        grey = image[..., 0]
        tifffile.imwrite(tmp_path / "a.tif", grey.astype(np.uint16) * 257, extratags=[(284, 3, 1, 2, True)])
        found = read_image(tmp_path / "a.tif")
        np.testing.assert_array_equal(found, np.dstack([grey] * 3))

    def test_jpeg(self, tmp_path):
        image = np.full((50, 40, 3), (200, 120, 150), np.uint8)
        for mode in ("RGB", "CMYK"):
            Image.fromarray(image).convert(mode).save(tmp_path / "a.jpg", quality=95)
            np.testing.assert_allclose(read_image(tmp_path / "a.jpg"), image, atol=4)

    def test_grey_gets_three_channels(self, tmp_path, image):
        grey = image[..., 0]
        Image.fromarray(grey).save(tmp_path / "a.png")
        tifffile.imwrite(tmp_path / "deep.tif", grey.astype(np.uint16) * 257)
        cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
        for name in ("a.png", "deep.tif", "deep.png"):
            np.testing.assert_array_equal(read_image(tmp_path / name), np.dstack([grey] * 3))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_white_may_be_zero(self, tmp_path, image, dtype):
        grey = image[..., 0]
        stored = (255 - grey).astype(dtype) * (257 if dtype == np.uint16 else 1)
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 1], grey)

    def test_palette(self, tmp_path, image):
        picture = Image.fromarray(image).quantize(16)
        expected = np.asarray(picture.convert("RGB"))
        for name in ("a.png", "a.tif", "a.bmp"):
            picture.save(tmp_path / name)
            np.testing.assert_array_equal(read_image(tmp_path / name), expected)

    def test_16_bit_png_keeps_its_lower_bits(self, tmp_path, image):
        # 12 bits of a camera in 16: the upper byte alone would be dark.
        cv2.imwrite(str(tmp_path / "a.png"), (image[..., ::-1].astype(np.uint16) << 4) + 15)
        np.testing.assert_allclose(read_image(tmp_path / "a.png"), image, atol=1)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_transparency_shows_white(self, tmp_path, bits):
        scale, dtype = (1, np.uint8) if bits == 8 else (257, np.uint16)
        stored = np.zeros((5, 4, 4), dtype)
        stored[..., 0] = 100 * scale
        stored[1, :, 3] = 255 * scale
        stored[2, :, 3] = 51 * scale
        for name in ("a.png", "a.tif"):
            if name == "a.tif":
                tifffile.imwrite(tmp_path / name, stored, photometric="rgb", extrasamples=["unassalpha"])
            else:
                cv2.imwrite(str(tmp_path / name), stored[..., [2, 1, 0, 3]])
            found = read_image(tmp_path / name)
            # A fifth of (100, 0, 0) on four fifths of white: 224, 204, 204.
            np.testing.assert_allclose(
                found[:4, 0], [(255, 255, 255), (100, 0, 0), (224, 204, 204), (255, 255, 255)], atol=1
            )

    def test_orientation_stays_as_stored(self, tmp_path):
        image = np.full((30, 50, 3), 200, np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned for looking at it
        Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif)
        assert read_image(tmp_path / "a.jpg").shape == (30, 50, 3)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_of_several_pages_the_first(self, tmp_path, image, dtype):
        stored = image.astype(dtype) * (257 if dtype == np.uint16 else 1)
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            file.write(stored, photometric="rgb")
            file.write(stored[:9, :9] // 2, photometric="rgb")
        with pytest.warns(UserWarning, match=r"a\.tif holds 2 pages; only the first is read"):
            found = read_image(tmp_path / "a.tif")
        np.testing.assert_array_equal(found, image)

    def test_larger_than_the_limit_of_pillow(self, tmp_path, image, monkeypatch):
        # 10,000 x 10,000 must work: Pillow warns of more than its limit and refuses more than twice that.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        for name in ("a.png", "a.tif"):
            tifffile.imwrite(tmp_path / "a.tif", image)
            cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
            np.testing.assert_array_equal(read_image(tmp_path / name), image)
        assert Image.MAX_IMAGE_PIXELS == 1000


class TestMistakes:
    """One line that names the file and says what is wrong; nothing on standard error."""

    def check(self, path, message, capfd):
        with pytest.raises(UserError, match=message) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert capfd.readouterr() == ("", "")

    def test_missing(self, tmp_path, capfd):
        self.check(tmp_path / "a.png", "can't be read: No such file or directory", capfd)

    def test_folder(self, tmp_path, capfd):
        self.check(tmp_path, "Expected an image file, got the folder", capfd)

    def test_empty(self, tmp_path, capfd):
        (tmp_path / "a.jpg").touch()
        self.check(tmp_path / "a.jpg", r"is empty \(0 bytes\)", capfd)

    @pytest.mark.parametrize("content", [b"hello", b"%PDF-1.7 and more", bytes(1000), b"GIF89a" + bytes(99)])
    def test_no_image(self, tmp_path, capfd, content):
        (tmp_path / "a.png").write_bytes(content)
        self.check(tmp_path / "a.png", "is no JPEG, PNG, BMP or TIFF image", capfd)

    @pytest.mark.parametrize("share", [0.03, 0.5, 0.95])
    @pytest.mark.parametrize(
        "kind", ["jpg", "png", "bmp", "tif", "lzw.tif", "deflate.tif", "16.png", "16.tif", "16.deflate.tif"]
    )
    def test_truncated(self, tmp_path, image, capfd, kind, share):
        path = tmp_path / f"a.{kind}"
        if kind == "16.png":
            cv2.imwrite(str(path), image.astype(np.uint16) * 257)
        elif kind.startswith("16"):
            compression = "zlib" if "deflate" in kind else None
            tifffile.imwrite(path, image.astype(np.uint16) * 257, photometric="rgb", compression=compression)
        else:
            compression = {"lzw.tif": "tiff_lzw", "deflate.tif": "tiff_adobe_deflate"}.get(kind)
            Image.fromarray(image).save(path, **({"compression": compression} if compression else {}))
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        self.check(path, "is damaged or cut short", capfd)

    @pytest.fixture
    def separate(self, tmp_path, image):
        """Write a deflated TIFF of 16 bits whose colours lie one after the other."""
        stored = np.moveaxis(image.astype(np.uint16) * 257, -1, 0)
        options = {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}
        tifffile.imwrite(tmp_path / "a.tif", stored, **options)
        return tmp_path / "a.tif"

    def test_damaged_where_colours_are_separate(self, separate, capfd):
        with tifffile.TiffFile(separate) as file:
            start = file.pages[0].dataoffsets[1]
        content = bytearray(separate.read_bytes())
        content[start : start + 8] = bytes(8)
        separate.write_bytes(content)
        self.check(separate, "is damaged or cut short", capfd)

    def test_more_than_the_header_says(self, separate, capfd):
        bomb = zlib.compress(bytes(30_000_000), 9)
        with tifffile.TiffFile(separate, mode="r+b") as file:
            tags = file.pages[0].tags
            (_, *offsets), (_, *sizes) = file.pages[0].dataoffsets, file.pages[0].databytecounts
            tags["StripOffsets"].overwrite([separate.stat().st_size, *offsets])
            tags["StripByteCounts"].overwrite([len(bomb), *sizes])
        with separate.open("ab") as stream:
            stream.write(bomb)
        tracemalloc.start()
        self.check(separate, "it holds more pixels than its header says", capfd)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()

    @pytest.mark.parametrize("kind", ["png", "lzw.tif", "16.png"])
    def test_damaged(self, tmp_path, image, capfd, kind):
        path = tmp_path / f"a.{kind}"
        if kind == "16.png":
            cv2.imwrite(str(path), image.astype(np.uint16) * 257)
        else:
            Image.fromarray(image).save(path, **({"compression": "tiff_lzw"} if "lzw" in kind else {}))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
        self.check(path, "is damaged or cut short", capfd)

    def test_absurdly_large_is_refused_before_decoding(self, tmp_path, capfd):
        for bits in (8, 16):
            write_png(tmp_path / "a.png", (100_000, 100_000), bits=bits)
            self.check(tmp_path / "a.png", "100000 x 100000 pixels, more than the 400,000,000", capfd)
        assert MAX_PIXELS >= 10_000**2

    def test_black_and_white(self, tmp_path, image, capfd):
        for name in ("a.png", "a.tif"):
            Image.fromarray(image).convert("1").save(tmp_path / name)
            self.check(tmp_path / name, r"is black and white \(1 bit a pixel\)", capfd)

    @pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int16])
    def test_other_pixels(self, tmp_path, capfd, dtype):
        tifffile.imwrite(tmp_path / "a.tif", np.ones((9, 9), dtype))
        self.check(tmp_path / "a.tif", "expected grey or RGB of 8 or 16 bits", capfd)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 255], [0, 255]),  # 8 bits in 16
        ([0, 256, 1023], [0, 64, 255]),  # 10 bits: 255 * 256 / 1023 = 63.8
        ([4095], [255]),
        ([4096, 16383], [64, 255]),  # 14 bits: 63.8
        ([16384, 65535], [64, 255]),  # 16 bits: 63.8
        ([0], [0]),
    ],
)
def test_scale_to_8_bits(values, expected):
    found = scale_to_8_bits(np.array(values, np.uint16))
    assert found.dtype == np.uint8
    assert found.tolist() == expected
