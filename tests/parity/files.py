"""Golden files for tests/test_files.c: what safetensors, Pillow and numpy write and read.

python tests/parity/files.py        from the repository's root; writes tests/golden/files/
"""
import io
import pathlib
import struct
import zlib

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

OUT = pathlib.Path("tests/golden/files")
OUT.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(7)


def tensors():
    """Every type, with values that are exact in all of them; the same as float in another file."""
    types = dict(f64=torch.float64, f32=torch.float32, bf16=torch.bfloat16, f16=torch.float16, i64=torch.int64,
                 i32=torch.int32, i16=torch.int16, i8=torch.int8, u8=torch.uint8, bool=torch.bool,
                 e4m3=torch.float8_e4m3fn, e5m2=torch.float8_e5m2, u16=torch.uint16, u32=torch.uint32,
                 u64=torch.uint64)
    small = torch.tensor([[0., 1, 2], [3, 4, 5]])
    t = {name: small.to(d) for name, d in types.items()}
    t["empty"] = torch.zeros(3, 0, 2)
    t["scalar"] = torch.tensor(-1.5)
    t["name with \"quotes\" \\ / é 中"] = torch.tensor([0.1, -0.0, float("inf")], dtype=torch.float16)
    save_file(t, OUT / "python.safetensors", metadata={"format": "pt"})
    save_file({k: v.to(torch.float32) for k, v in t.items()}, OUT / "python_f32.safetensors")


def photo(w, h, mode):
    """Smooth with noise and hard edges: overshoot and rounding both matter."""
    c = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([(np.sin(x / (3 + k)) * np.cos(y / (2 + k)) + 1) * 110 for k in range(c)], -1)
    a += rng.integers(-30, 30, a.shape)
    a[h // 3:h // 2, w // 4:w // 2] = 255 * rng.integers(0, 2, c)
    if c == 4:
        a[: h // 4, :, 3] = 0
        a[h // 4: h // 2, :, 3] = 255
    return Image.fromarray(np.clip(a, 0, 255).astype(np.uint8).squeeze(), mode)


def array(im):
    a = np.array(im)
    return a[..., None] if a.ndim == 2 else a


def resizes():
    filters = dict(box=Image.BOX, bilinear=Image.BILINEAR, bicubic=Image.BICUBIC, lanczos=Image.LANCZOS)
    t = {}
    for mode in ("L", "RGB", "RGBA"):
        im = photo(24, 18, mode)
        t[mode] = array(im)
        for name, f in filters.items():
            for w, h in ((29, 7), (5, 31), (24, 23), (11, 18), (1, 1)):
                t[f"{mode} {name} {w} {h}"] = array(im.resize((w, h), f))
    save_numpy(t, OUT / "resize.safetensors")


def adam7(a):
    """An interlaced PNG, which Pillow reads and does not write."""
    h, w, c = a.shape
    raw = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
                           (0, 1, 1, 2)):
        part = a[y0::dy, x0::dx]
        if part.size:
            raw += b"".join(b"\0" + row.tobytes() for row in part)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", w, h, 8, {1: 0, 3: 2, 4: 6}[c], 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def images():
    """One small file of each kind, and what Pillow sees in it as L, RGB or RGBA."""
    rgb, rgba, grey = photo(19, 13, "RGB"), photo(19, 13, "RGBA"), photo(19, 13, "L")
    palette = rgb.quantize(7)
    clear = palette.copy()
    clear.info["transparency"] = 2
    files = {}

    def put(name, im, mode, **options):
        b = io.BytesIO()
        im.save(b, name.rsplit(".")[-1].upper().replace("JPG", "JPEG"), **options)
        files[name] = b.getvalue(), mode

    put("grey.png", grey, "L")
    put("bit.png", grey.convert("1"), "L")
    put("grey_alpha.png", rgba.convert("LA"), "RGBA")
    put("rgb.png", rgb, "RGB")
    put("rgba.png", rgba, "RGBA")
    put("palette.png", palette, "RGB")
    put("palette_alpha.png", clear, "RGBA", transparency=2)
    files["interlaced.png"] = adam7(np.array(rgba)), "RGBA"
    put("grey.jpg", grey, "L", quality=90)
    put("rgb444.jpg", rgb, "RGB", quality=90, subsampling=0)
    put("rgb420.jpg", rgb, "RGB", quality=75, subsampling=2)
    put("progressive.jpg", rgb, "RGB", progressive=True, subsampling=0)
    put("lossless.webp", rgb, "RGB", lossless=True)
    put("lossless_alpha.webp", rgba, "RGBA", lossless=True, exact=True)
    put("lossy.webp", rgb, "RGB", quality=80)
    put("rgb.bmp", rgb, "RGB")
    put("palette.bmp", palette, "RGB")
    put("rgb.tga", rgb, "RGB")
    put("rgba_rle.tga", rgba, "RGBA", compression="tga_rle")
    put("grey.tga", grey, "L")
    expected = {}
    for name, (data, mode) in files.items():
        (OUT / name).write_bytes(data)
        expected[name] = array(Image.open(io.BytesIO(data)).convert(mode))
    expected["luma"] = array(rgb.convert("L"))
    save_numpy(expected, OUT / "images.safetensors")


TEXT = "a cat, Größe 7\nNegative prompt: dog\nSteps: 20"
WIDE = TEXT + " 猫 \U0001f408"


def texts():
    im = photo(4, 4, "RGB")
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", TEXT)
    info.add_text("wide", WIDE)
    info.add_text("zipped", "z" * 3000, zip=True)
    info.add_itxt("izip", WIDE, zip=True)
    im.save(OUT / "texts.png", pnginfo=info)
    for name, byte_order in (("texts_be.jpg", "MM"), ("texts_le.webp", "II")):
        exif = Image.Exif()
        exif.endian = ">" if byte_order == "MM" else "<"
        coded = WIDE.encode("utf-16-be" if byte_order == "MM" else "utf-16-le")
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + coded
        im.save(OUT / name, exif=exif)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0plain"
    im.save(OUT / "texts_ascii.jpg", exif=exif)


torch.manual_seed(0)
tensors()
resizes()
images()
texts()
