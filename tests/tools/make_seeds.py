"""Writes the seeds of the fuzz targets that no file of the tests is: python3 tests/tools/make_seeds.py FOLDER

One folder for each target of tests/fuzz. Each seed says which branches of its parser it is for; with `m=40`
it is also written forty times with a tail (tests/fuzz/fuzz.h) that lets call 0, 1, ... 39 for memory fail, and
so on for files that fail (e: EIO, n: ENOSPC, i: EINTR, s: short counts). Nothing but Python's own library, from
the repository's root.
"""
import json
import pathlib
import shutil
import struct
import sys
import zlib

OUT = pathlib.Path(sys.argv[1])
FILES = pathlib.Path("tests/golden/files")
BAD = pathlib.Path("tests/golden/malformed")
shutil.rmtree(OUT, ignore_errors=True)


def seed(target, name, data, why, **faults):
    assert why and len(data) <= 100000 and not (OUT / target / name).exists(), name
    (OUT / target).mkdir(parents=True, exist_ok=True)
    (OUT / target / name).write_bytes(data)
    for kind, calls in faults.items():
        for i in range(calls):
            (OUT / target / f"{name}-{kind}{i}").write_bytes(data + b"\xfb!" + kind.encode() + bytes([i]))


# ---------------------------------------------------------------- Exif

def tiff(first, exif=(), order=">", behind=b"", first_at=8):
    """A block: entries (tag, type, value bytes or offset) of IFD0, those of the Exif IFD, then `behind`."""
    at = 8 + 2 + 12 * (len(first) + (1 if exif else 0)) + 4
    values = at + (2 + 12 * len(exif) + 4 if exif else 0)

    def directory(entries):
        nonlocal behind
        out = struct.pack(order + "H", len(entries))
        for tag, kind, value in entries:
            out += struct.pack(order + "HH", tag, kind)
            if isinstance(value, int):
                out += struct.pack(order + "II", 1, value)
            elif isinstance(value, tuple):  # length and offset as they are
                out += struct.pack(order + "II", *value)
            elif len(value) <= 4:
                out += struct.pack(order + "I", len(value)) + value.ljust(4, b"\0")
            else:
                out += struct.pack(order + "II", len(value), values + len(behind))
                behind += value
        return out + bytes(4)

    ifd0 = directory(list(first) + ([(EXIF, 4, at)] if exif else []))
    ifd1 = directory(exif) if exif else b""
    return (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", first_at) + ifd0 + ifd1 + behind


DESCRIPTION, MAKE, MODEL, EXIF, COMMENT = 0x10e, 0x10f, 0x110, 0x8769, 0x9286


def comment(text, order=">", coding=b"UNICODE\0"):
    return (COMMENT, 7, coding + text.encode("utf-16-be" if order == ">" else "utf-16-le", "surrogatepass"))


blocks = {
    "plain": (tiff([], [comment("a boat")]), "a comment in the block's byte order", {"m": 16}),
    "little": (tiff([], [comment("a boat", "<")], "<"), "the other byte order", {}),
    "mark": (tiff([], [(COMMENT, 7, b"UNICODE\0\xfe\xff\0a\0b")]), "a byte order mark", {}),
    "swapped": (tiff([], [(COMMENT, 7, b"UNICODE\0\xff\xfea\0b\0")]), "a mark of the other byte order", {}),
    "mark_only": (tiff([], [(COMMENT, 7, b"UNICODE\0\xfe")]), "half a mark", {}),
    "pair": (tiff([], [comment("a \U0001f6a2 z")]), "a surrogate pair", {}),
    "halves": (tiff([], [comment("\ud800\ud800\udc00\udc00x\ud83d")]), "halves of pairs, in the middle and at the end",
               {}),
    "high": (tiff([], [comment("\ue000\uffff")]), "characters above the surrogates", {}),
    "nul": (tiff([], [comment("a\0b")]), "a NUL in the text", {}),
    "ascii": (tiff([], [(COMMENT, 7, b"ASCII\0\0\0a boat")]), "a text in bytes", {"m": 14}),
    "latin1": (tiff([], [(COMMENT, 7, b"ASCII\0\0\0caf\xe9")]), "bytes that are not UTF-8", {"m": 16}),
    "short": (tiff([], [(COMMENT, 7, b"UNICODE")]), "a comment without room for its coding", {}),
    "empty": (tiff([], [(COMMENT, 7, b"")]), "a comment of 0 bytes", {}),
    "behind": (tiff([], [(COMMENT, 7, (100, 4000))]), "a comment behind the end", {}),
    "beyond": (tiff([], [(COMMENT, 7, (4000, 30))]), "a comment that goes over the end", {}),
    "no_exif": (tiff([(DESCRIPTION, 2, b"abc\0")]), "no Exif directory, a description of 4 bytes", {}),
    "directory": (tiff([(EXIF, 4, 9999)]), "an Exif directory behind the end", {}),
    "edge": (tiff([(EXIF, 4, 25)]), "an Exif directory of which a byte is left", {}),
    "first": (tiff([], first_at=0xffffffff), "a first directory behind the end", {}),
    "count": (tiff([(1, 1, 0)])[:-10] + b"", "fewer entries than counted", {}),
    "described": (tiff([(DESCRIPTION, 2, b"workflow:{\"a\": 1}\0"), (MAKE, 2, b"prompt:{}\0"), (MODEL, 2, b"x" * 90
                                                                                             + b":{}\0")],
                       [comment("a boat")]), "what ComfyUI writes, and a key too long for PNG", {"m": 24}),
    "camera": (tiff([(DESCRIPTION, 2, b":{\0\0\0"), (MAKE, 2, b"canon\0"), (MODEL, 2, b"eos:5d\0")]),
               "what cameras write: no key, no colon, no brace", {}),
    "prefixed": (b"Exif\0\0" + tiff([], [comment("a boat")]), "JPEG's prefix", {}),
    "magic": (b"MM*\0" + bytes(40), "no magic number", {}),
    "tiny": (b"MM\0*\0\0", "shorter than a header", {}),
}
for name, (data, why, faults) in blocks.items():
    seed("exif", name, data, why, **faults)
seed("exif", "text_utf8", "ä Ω \U0001f6a2".encode(), "a text to store: outside of Latin-1 and of 16 bits", m=10)
seed("exif", "text_latin1", "ä ö".encode(), "a text to store: Latin-1", m=10)
seed("exif", "text_bad", b"abc\xffdef", "a text to store that is not UTF-8")

# ---------------------------------------------------------------- JPEG

GREY_JPG = (FILES / "grey.jpg").read_bytes()
RGB_JPG = (FILES / "rgb420.jpg").read_bytes()


def app1(data):
    return b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data


def with_app1(jpeg, *segments):
    return jpeg[:2] + b"".join(app1(s) for s in segments) + jpeg[2:]


exif_of = {name: b"Exif\0\0" + block[0] for name, block in blocks.items()}
seed("jpeg", "grey", GREY_JPG, "one channel", m=60, e=8, n=12, s=4, i=4)
seed("jpeg", "exif", with_app1(RGB_JPG, exif_of["described"]), "texts of both kinds", m=80)
seed("jpeg", "other_app1", with_app1(GREY_JPG, b"x", b"http://ns.adobe.com/xap/1.0/\0<x/>", exif_of["plain"],
                                     exif_of["ascii"]), "segments that are no Exif, and a second Exif")
cmyk = (BAD / "image" / "cmyk.jpg").read_bytes()
adobe = cmyk.find(b"Adobe")
assert adobe > 0
seed("jpeg", "ycck", cmyk[:adobe + 11] + b"\2" + cmyk[adobe + 12:], "YCCK")
seed("jpeg", "long", with_app1(GREY_JPG, b"Exif\0\0" + tiff([], [(COMMENT, 7, b"ASCII\0\0\0" + b"x" * 40000)])),
     "a text that a JPEG has no room for as UTF-16", m=40)

# ---------------------------------------------------------------- PNG


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, depth=8, colour=0, before=b"", behind=b"", lace=0, bits=None):
    row = (w * (bits or depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]) + 7) // 8
    pixels = zlib.compress((b"\0" + bytes(row)) * h, 9)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, lace)) + before +
            chunk(b"IDAT", pixels) + behind + chunk(b"IEND", b""))


def text(key, value):
    return chunk(b"tEXt", key + b"\0" + value)


def itxt(key, value, packed=False):
    return chunk(b"iTXt", key + (b"\0\1\0" if packed else b"\0\0\0") + b"\0\0" + (zlib.compress(value) if packed else value))


seed("png", "grey", png(2, 2), "grey", m=120, e=8, n=12, s=4, i=4)
seed("png", "texts", png(2, 2, 8, 2, text(b"parameters", b"a boat"), itxt("prompt".encode(), "ä Ω".encode())),
     "texts before the pixels", m=150)
seed("png", "behind", png(2, 2, 8, 6, b"", itxt(b"a", b"{}", True) + chunk(b"zTXt", b"b\0\0" + zlib.compress(b"x"))),
     "packed texts behind the pixels", m=60)
seed("png", "not_utf8", png(2, 2, 8, 0, itxt(b"a", b"\xff\xfe"), text(b"b", b"\xe9")), "an iTXt that is not UTF-8")
for name, key in [("space_first", b" a"), ("space_last", b"a "), ("space_twice", b"a  b"), ("control", b"a\x1fb"),
                  ("delete", b"a\x7fb"), ("gap", b"a\xa0b"), ("latin1", b"caf\xe9"), ("long", b"k" * 79)]:
    seed("png", f"key_{name}", png(1, 1, 8, 0, text(key, b"x")), "a keyword that libpng reads and PNG forbids, or not")
seed("png", "zero_key", png(1, 1, 8, 0, text(b"", b"x")), "no keyword")
seed("png", "transparent", png(2, 2, 8, 0, chunk(b"tRNS", b"\0\0")), "a transparent grey")
seed("png", "grey_alpha16", png(2, 2, 16, 4), "16 bits, grey with alpha")
seed("png", "laced", png(9, 9, 8, 2, lace=0), "rows in one pass")
seed("png", "wide", png(16384, 1), "wider than a WebP can be")
seed("png", "high", png(1, 16384), "higher than a WebP can be")
seed("png", "too_wide", png(16385, 1), "wider than any picture may be")
seed("png", "long_text", png(1, 1, 8, 0, chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"y" * 40000))),
     "a text that a JPEG has no room for", m=40)
seed("png", "bomb_text", png(1, 1, 8, 0, chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(30 << 20), 9))),
     "a text over the limit for chunks")
seed("png", "bomb_chunks", png(1, 1, 8, 0, text(b"a", b"b") * 1200), "more chunks than are kept")
seed("png", "not_latin1_key", png(1, 1, 8, 0, text("Ω".encode(), b"x")), "a keyword in UTF-8")

# ---------------------------------------------------------------- WebP

LOSSLESS, LOSSY = ((FILES / f"{n}.webp").read_bytes() for n in ("lossless", "lossy"))


def riff(*chunks):
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(d)) + d + bytes(len(d) & 1) for k, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp(picture, exif, flags=8):
    """The one chunk of a simple file under an extended header, with an Exif chunk."""
    kind, data = picture[12:16], picture[20:20 + struct.unpack("<I", picture[16:20])[0]]
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[1:5])[0]
        w, h = (bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1
    else:
        w, h = struct.unpack("<HH", data[6:10])
    size = struct.pack("<I", w - 1)[:3] + struct.pack("<I", h - 1)[:3]
    return riff((b"VP8X", bytes([flags, 0, 0, 0]) + size), (kind, data), (b"EXIF", exif))


seed("webp", "sound", b"RIFF" + struct.pack("<I", 4) + b"WAVE", "a RIFF file that is no picture")
seed("webp", "lossless", LOSSLESS, "lossless", m=60, e=8, n=12, s=4, i=4)
seed("webp", "lossy", LOSSY, "lossy", m=60)
seed("webp", "texts", webp(LOSSY, blocks["described"][0]), "texts of both kinds", m=60)
seed("webp", "latin1", webp(LOSSLESS, blocks["latin1"][0]), "a text that is not UTF-8")
seed("webp", "long", webp(LOSSY, tiff([], [(COMMENT, 7, b"ASCII\0\0\0" + b"x" * 40000)])), "a long text")

# ---------------------------------------------------------------- BMP and TGA


def bmp(w, h, bits, data, palette=b"", header=40, compression=0, masks=b"", planes=1, top=b""):
    at = 14 + header + len(masks) + len(palette)
    info = (struct.pack("<IHHHH", 12, w, h, planes, bits) if header == 12 else
            struct.pack("<IiiHHIIiiII", header, w, h, planes, bits, compression, 0, 0, 0, 0, 0).ljust(header, b"\0"))
    return b"BM" + struct.pack("<IHHI", at + len(data), 0, 0, at) + info + masks + palette + data


def tga(w, h, kind, bits, data, palette=b"", palette_bits=0, entries=0, flags=0, id_text=b"", start=0):
    return struct.pack("<BBBHHBHHHHBB", len(id_text), entries > 0, kind, start, entries, palette_bits, 0, 0, w, h, bits,
                       flags) + id_text + palette + data


MASK565 = struct.pack("<III", 0xf800, 0x7e0, 0x1f)
MASKS32 = struct.pack("<IIII", 0xff0000, 0xff00, 0xff, 0xff000000)
for name, data, why in [
    ("bmp1", bmp(9, 2, 1, bytes(8), bytes(8)), "a bit for a pixel"),
    ("bmp4", bmp(3, 2, 4, bytes(8), bytes(64)), "4 bits"),
    ("bmp8", bmp(3, -2, 8, bytes(8), bytes(1024)), "8 bits, top row first"),
    ("bmp16", bmp(3, 2, 16, bytes(16)), "16 bits"),
    ("bmp565", bmp(3, 2, 16, bytes(16), compression=3, masks=MASK565), "16 bits under masks"),
    ("bmp24", bmp(3, 2, 24, bytes(24)), "24 bits"),
    ("bmp32", bmp(3, 2, 32, bytes(range(24))), "32 bits"),
    ("bmp_v4", bmp(3, 2, 32, bytes(range(24)), header=108, compression=3), "a header of version 4"),
    ("bmp_v5", bmp(3, 2, 32, bytes(range(24)), header=124), "a header of version 5"),
    ("bmp_os2", bmp(3, 2, 24, bytes(24), header=12), "a header of OS/2"),
    ("bmp_core", bmp(3, 2, 8, bytes(8), bytes(768), header=12), "a palette of OS/2"),
    ("bmp_gap", bmp(3, 2, 24, bytes(24), palette=bytes(900)), "bytes between header and pixels"),
    ("bmp_gap_long", bmp(3, 2, 24, bytes(24), palette=bytes(1000)), "as many as may be"),
    ("bmp_short", bmp(3, 2, 24, bytes(23)), "a byte missing"),
    ("bmp_nothing", bmp(60, 50, 24, bytes(128 - 54 + 128)), "nothing left for whole rows"),
    ("bmp_skip", bmp(70, 60, 1, bytes(12 * 60), bytes(8) + bytes(200)), "bytes skipped beyond the buffer"),
    ("bmp_skip_end", bmp(3, 2, 24, b"", palette=bytes(300))[:200], "bytes skipped beyond the end"),
    ("tga24", tga(3, 2, 2, 24, bytes(18)), "24 bits"),
    ("tga32", tga(3, 2, 2, 32, bytes(range(24)), flags=0x28), "32 bits, top row first"),
    ("tga16", tga(3, 2, 2, 16, bytes(12)), "16 bits"),
    ("tga8", tga(3, 2, 3, 8, bytes(6)), "grey"),
    ("tga16_grey", tga(3, 2, 3, 16, bytes(range(12))), "grey with alpha"),
    ("tga_map", tga(3, 2, 1, 8, bytes(6), bytes(12), 24, 4), "a palette"),
    ("tga_map16", tga(3, 2, 1, 8, bytes(6), bytes(8), 16, 4), "a palette of 16 bits"),
    ("tga_map_rle", tga(3, 2, 9, 8, b"\x82\1\2\0\1\2", bytes(16), 32, 4), "a palette, run lengths"),
    ("tga_rle", tga(3, 2, 10, 24, b"\x82abc\2" + bytes(9)), "run lengths"),
    ("tga_id", tga(3, 2, 2, 24, bytes(18), id_text=b"x" * 255), "a text behind the header"),
    ("tga_id_cut", tga(3, 2, 2, 24, b"", id_text=b"x" * 255)[:150], "a text that is cut"),
    ("tga_short", tga(3, 2, 2, 24, bytes(17)), "a byte missing"),
    ("tga_rows", tga(100, 9, 2, 24, bytes(300 * 4 + 50)), "rows missing"),
]:
    seed("bmp", name, data, why, **({"m": 14, "e": 6} if name in ("bmp24", "tga_map") else {}))

# ---------------------------------------------------------------- training configurations


def js(**keys):
    return json.dumps(keys).encode()


# Every key with a value of its type; the same again in a stage.
ALL_OF_STAGE = {"data": "d", "size": "64x64,96x48", "samples": 7, "batch": 2, "accumulate": 2, "crop": 8, "decoder_only": True,
                "cache": 3, "lr": 0.5, "lr_end": 1e-6, "warmup": 0}
ALL_OF_RUN = {"model": "m", "start": "s", "out": "o", "seed": 2, "precision": "bf16", "save_as": "F16", "threads": 3,
              "skip_bad": True, "beta1": 0.5, "beta2": 0.5, "eps": 1e-6, "weight_decay": 0, "clip": 0, "ema": 0, "l1": 2,
              "mse": 1, "edge": 0, "kl": 0, "pooled_every": 0, "caption_dropout": 0, "time_power": 1, "log_every": 1,
              "checkpoint_every": 1, "keep": 1, "grid_every": 0, "grid_steps": 1, "grid_guidance": 1, "grid_rescale": 0,
              "prompts": ["a", "b"]}
for name, data, why in [
    ("all", js(**ALL_OF_RUN, **ALL_OF_STAGE), "every key"),
    ("stages", js(**ALL_OF_RUN, stages=[ALL_OF_STAGE, {}, {"lr": 1}]), "every key of a stage, and none"),
    ("stages_empty", js(stages=[]), "no stage"),
    ("stages_33", js(stages=[{}] * 33), "more stages than there may be"),
    ("stages_list", js(stages=[[]]), "a stage that is a list"),
    ("stages_key", js(stages=[{"lr": 1}, {"seed": 1}]), "a key of the run in a stage"),
    ("stages_type", js(stages=[{"lr": "fast"}, {}]), "a word for a number in the first stage"),
    ("stages_number", js(stages=3), "a number of stages"),
    ("word_part", js(precision="f3"), "the beginning of a choice"),
    ("word_last", js(precision="bf1"), "the beginning of the last choice"),
    ("word_empty", js(precision=""), "no choice"),
    ("sizes_33", js(size=",".join(["8x8"] * 33)), "more sizes than there may be"),
    ("sizes_comma", js(size="8x8,"), "nothing behind the comma"),
    ("sizes_low", js(size="8x7"), "a side too short"),
    ("sizes_wide", js(size="9999x8"), "a side too long"),
    ("sizes_high", js(size="8x9999"), "the other side too long"),
    ("sizes_space", js(size="8x8 9x9"), "another separator"),
    ("sizes_one", js(size="8"), "one side"),
    ("prompts_65", js(prompts=["x"] * 65), "more prompts than there may be"),
    ("prompts_number", js(prompts=["x", 7]), "a number for a prompt"),
    ("two_wrong", js(precision="x", size="y", prompts=[1], stages=[]), "several keys wrong: the first is told"),
    ("null", js(model=None, lr=None, size=None, stages=None), "null is the default"),
    ("infinity", b'{"prompts": Infinity}', "null in a file and nothing in a text"),
    ("kind", b"finetune", "a kind of training"),
]:
    seed("train_config", name, data, why, **({"m": 24} if name in ("all", "stages") else {}))

# ---------------------------------------------------------------- training folders


def lines(*objects):
    return b"".join(json.dumps(o).encode() + b"\n" for o in objects)


LISTED = [{"file_name": "1.png", "text": "a"}, {"file_name": "wide.png", "caption": "b"},
          {"file_name": "inner/grey.jpg", "text": "c"}]
for name, data, why, faults in [
    ("list", lines(*LISTED), "a good list", {"m": 80, "e": 24, "s": 8}),
    ("caption", b"\n a boat \t", "a caption with white space around it", {"m": 60, "e": 20}),
    ("picture", png(9, 3, 8, 6), "a picture", {"m": 60}),
    ("white", b" \n\t\n", "nothing but white space", {}),
    ("last_line", lines(LISTED[0])[:-1], "no line feed at the end", {}),
    ("long", b"x" * 5000, "a caption over the limit", {}),
    ("nul", b"a\0b", "a NUL in a caption", {}),
    ("nothing", b"", "no byte at all", {}),
    ("no_text", lines({"file_name": "1.png"}), "no caption", {}),
    ("two_spellings", lines({"file_name": "1.png", "text": "a", "caption": 7}), "the second spelling is not looked at", {}),
    ("caption_type", lines({"file_name": "1.png", "caption": 7}), "a number for a caption", {}),
    ("dots", lines({"file_name": "..x/a..b/x..", "text": "a"}), "names with dots that stay below", {}),
    ("parent_last", lines({"file_name": "inner/..", "text": "a"}), "the folder above, at the end", {}),
    ("empty_name", lines({"file_name": "", "text": "a"}), "no name", {}),
    ("some_bad", lines(LISTED[0], {}, LISTED[1], {"file_name": "none.png", "text": ""}), "two bad ones among good ones", {}),
    ("many", lines(*LISTED[:1] * 300), "more than there is room for at first", {}),
]:
    seed("captions", name, data, why, **faults)

# ---------------------------------------------------------------- jobs of a batch

for file in sorted((BAD / "jobs").iterdir()):
    if file.is_file():
        kind = {".csv": b"1", ".txt": b"2"}.get(file.suffix, b"0")
        seed("jobs", file.name, kind + file.read_bytes(), "the file of a batch that is refused")

BOAT = {"prompt": "a boat"}
for name, data, why, faults in [
    ("good.json", b"0" + lines({**BOAT, "seed": 3, "id": "x", "batch-count": 2, "negative-prompt": "{a|b}"}, BOAT, BOAT,
                              {"prompt": "a __x__ boat", "cfg": 2, "steps": None}), "good jobs", {"m": 130}),
    ("good.csv", b"1prompt,steps,seed,no-metadata\r\n\"a \"\"b\"\"\nc\",4,+1,yes\r\nb,,,\r\n\n,1,1,off\n", "good rows",
     {"m": 100, }),
    ("good.txt", b"2a boat --steps 4\n# none\n--prompt \"a \\\"b\\\" \\\\ \\c\" --negative_prompt 'x' --seed -1\n"
                 b"a --n b, c --w 64 --h 64 --no-metadata\n-p x -W 64 -q\n", "good prompts with flags", {"m": 120}),
    ("many", b"0" + lines(*[{"prompt": str(i), "id": i} for i in range(70)]), "more than there is room for at first", {}),
    ("many_short", b"0" + lines(*[{}] * 70), "and none of them good", {}),
    ("truths", b"1prompt,no-metadata,steps\na,TRUE,x\nb,off,1.5\nc,2,7\nd,No,[1]\ne,,3\n", "words for truth values", {}),
    ("returns", b"1prompt,steps\na\rb,\r1\n\"c\rd\",1\r", "returns in the middle and at the end", {}),
    ("quotes", b"1prompt,steps\n\"a\"b,1\n\"c\"", "text behind a quote, a quote at the end", {}),
    ("bad_bytes.csv", b"1prompt\ncaf\xe9\na\0b\n", "not UTF-8, and a NUL", {}),
    ("one_column", b"1prompt\n\n\nx\n", "empty rows under one column", {}),
    ("empty_column", b"1,\n", "a header without a name", {}),
    ("header_end", b"1prompt", "a header at the end", {}),
    ("header_empty", b"1\nx\n", "an empty header", {}),
    ("no_option", b"1colour,prompt\nred,a\n", "a column that is no option", {}),
    ("letters", b"2a -Z 1\na -s4 x\na --" + b"x" * 70 + b" 1\na - b -- c\na --1 b\n", "letters and names of no flag", {}),
    ("escapes", b"2--prompt \"a \\x b\\\" \\", "a backslash before other letters and at the end", {}),
    ("quote_end", b"2--prompt 'a' b\n--prompt 'a' --steps\n--steps=3 --seed='4'\n", "text behind a quoted value", {}),
    ("flag_only", b"2   --no-metadata\n--no-metadata x\n-\n", "flags without a prompt", {}),
    ("utf8", b"2a \xff\na --steps \xff\n--negative-prompt \xff x\n", "not UTF-8 in each place", {}),
    ("space", b"0 \r\n\t\n", "only white space", {}),
    ("bom", b"0\xef\xbb\xbf{}", "a byte order mark", {}),
    ("bom_part", b"0\xef\xbb", "two bytes of one", {}),
    ("ids", b"0" + lines({**BOAT, "id": ""}, {**BOAT, "id": "x" * 129}, {**BOAT, "id": 7}, {**BOAT, "id": 7},
                         {**BOAT, "id": "x" * 128, "batch-count": 2}, {**BOAT, "id": {}}), "ids of every kind", {}),
    ("outputs", b"0" + lines(*[{**BOAT, "output": o} for o in ("", ".png", "-.png", "a.gif", "a/b.png", "a\\b.png", "\x7f.png",
                                                               "{id}{seed}{x}.jpg", "x" * 300, "{id}" * 20 + ".png")]),
     "names of every kind", {}),
    ("prompts", b"0" + lines({}, {"prompt": "\\{a|b}"}, {"prompt": "{a", "negative-prompt": "b"},
                             {"prompt": "a", "negative-prompt": "{b"}), "prompts of every kind", {}),
    ("null", b"0null\n[]\n{\"prompt\":\"a\",\"steps\":4", "no objects", {}),
    ("wild_names", b"2" + b"\n".join(b"a " + n for n in [
        b"__x__", b"__x__ b", b"__x_", b"__x", b"____", b"_x__y", b"__none__", b"__folder__", b"__nothing__", b"__a-b_c/d.e__", b"__/x__",
        b"__a/.x__", b"__.x__", b"__a//b__", b"__a b__", b"__caf\xc3\xa9__", b"__" + b"y" * 199 + b"__", b"__" + b"y" * 201 + b"__"]),
     "names of wildcards of every kind", {"m": 60, "e": 40, "i": 8, "s": 8}),
    ("wild_self", b"2# {a|b}\r\n\r\n__self__ \\{\n{c|\\||d} \\} \\a \\\r\n__self__\n{__self__|{e|__x__}}\n",
     "a file of wildcards that chooses itself", {"m": 40}),
    ("wild_deep", b"2__self__\n__self__ b", "and nothing else", {}),
    ("wild_braces", b"2{" + b"a|{" * 17 + b"\n{a|{b|c}|\\}d}\n{}{a}{|}{{|}|}\n{a|b\n{a\n}{|\n\\{a|b}\n" + b"{a|b} __none__" * 3,
     "braces of every kind", {}),
    ("wild_long", b"2" + b"{" + b"x" * 33000 + b"|" + b"y" * 33000 + b"} __self__", "more text than there may be", {}),
]:
    seed("jobs", name, data, why, **faults)

# ---------------------------------------------------------------- what a batch has done

DONE, FAILED = {"id": "1234", "status": "done"}, {"id": "1234", "status": "failed"}
for name, data, why, faults in [
    ("good", lines({**DONE, "output": "a.png", "seed": 3}, {"id": "x", "status": "failed"}), "a job of each kind",
     {"m": 20, "e": 40, "n": 20, "i": 40, "s": 20}),
    ("again", lines(DONE, FAILED, DONE, DONE, FAILED), "a job that was done and was not", {}),
    ("torn", lines(DONE) + b'{"id": "1234", "sta', "a line without an end", {"e": 40, "n": 20, "i": 40, "s": 20}),
    ("strange", b"x\n\n[]\n" + lines({"id": 1, "status": "done"}, {"id": "1"}, {"status": "done"}, {"id": "1", "status": 2}),
     "lines that say nothing", {}),
    ("one_strange", b"\n", "one of them", {}),
    ("bytes", b'{"id": "\xff", "status": "done"}\n\0\n{"id": "a\\u0000b", "status": "done"}\n', "no text", {}),
]:
    seed("journal", name, data, why, **faults)

# ---------------------------------------------------------------- configurations of networks and schedulers

UNET = {"block_out_channels": [32, 64], "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "attention_head_dim": 8}
for name, keys, why in [
    ("lists", {"layers_per_block": [1, 2], "only_cross_attention": [True, False], "cross_attention_dim": [8, 16]}, "a list for each"),
    ("list_1", {"layers_per_block": [2]}, "a list of one for all"),
    ("list_3", {"layers_per_block": [1, 2, 3]}, "a list of another length"),
    ("list_wrong", {"layers_per_block": [1, "x"]}, "a word in a list"),
    ("types_none", {"down_block_types": []}, "an empty list of types"),
    ("types_3", {"up_block_types": ["UpBlock2D"] * 3}, "more types than levels"),
    ("types_number", {"down_block_types": [1, 2]}, "numbers for types"),
    ("attention", {"down_block_types": ["AttnDownBlock2D"] * 2, "up_block_types": ["AttnUpBlock2D"] * 2}, "attention to itself"),
    ("attention_wrong", {"down_block_types": ["AttnDownBlock2D"] * 2, "attention_head_dim": 7}, "a head that does not divide"),
    ("heads_up", {"up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_head_dim": [5, 8],
                  "down_block_types": ["DownBlock2D"] * 2}, "heads that do not divide on the way up"),
    ("heads_mid", {"up_block_types": ["UpBlock2D"] * 2, "down_block_types": ["DownBlock2D"] * 2, "attention_head_dim": 7},
     "heads that do not divide in the middle"),
    ("mid_none", {"mid_block_type": None}, "no middle"),
    ("mid_plain", {"mid_block_type": "UNetMidBlock2D"}, "a middle without attention to the prompt"),
    ("classes", {"num_class_embeds": 10}, "labels"),
    ("class_projection", {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 8}, "classes projected"),
    ("class_simple", {"class_embed_type": "simple_projection"}, "a projection without its size"),
    ("text", {"addition_embed_type": "text", "cross_attention_dim": 64}, "a text beside the prompt"),
    ("text_heads", {"addition_embed_type": "text", "cross_attention_dim": 63}, "heads that do not divide the text"),
    ("text_time", {"addition_embed_type": "text_time", "addition_time_embed_dim": 8,
                   "projection_class_embeddings_input_dim": 8}, "text and sizes"),
    ("text_time_wrong", {"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 8}, "sizes without a size"),
    ("sample_pair", {"sample_size": [8, 8]}, "a pair for a size"),
    ("scale_shift", {"resnet_time_scale_shift": "scale_shift"}, "another way of the time"),
    ("null_unknown", {"conv_in_kernel": None}, "null for what may not be null"),
    ("fixed", {"act_fn": "gelu", "dropout": 0.5}, "values that we have not, the first is told"),
    ("fixed_same", {"act_fn": "silu", "dropout": 0.0, "resnet_out_scale_factor": 1.0, "dual_cross_attention": False},
     "1 and 1.0 are the same"),
    ("private", {"_anything": None, "_class_name": "UNet2DConditionModel"}, "keys of nobody's business"),
    ("truth_number", {"flip_sin_to_cos": 1}, "a number for a truth value"),
    ("number_truth", {"in_channels": True}, "a truth value for a number"),
    ("number_false", {"freq_shift": False}, "a truth value for a real number"),
    ("number_object", {"freq_shift": {}}, "an object for a number"),
    ("numbers_object", {"block_out_channels": {}}, "an object for a list"),
    ("only_cross", {"only_cross_attention": [True]}, "a list of one truth value"),
    ("only_cross_null", {"only_cross_attention": [None, None]}, "null for truth values"),
    ("depths", {"transformer_layers_per_block": [1, 2]}, "depths of two levels"),
    ("depths_one", {"transformer_layers_per_block": [2]}, "a depth in a list"),
    ("depths_three", {"transformer_layers_per_block": [1, 2, 3]}, "three depths for two levels"),
    ("depths_lists", {"transformer_layers_per_block": [[1], [2]], "reverse_transformer_layers_per_block": [[1, 2], [3, 4]]},
     "a depth for each transformer"),
    ("depths_lists_long", {"transformer_layers_per_block": [[1, 2, 3], [2]], "reverse_transformer_layers_per_block": [1, 1]},
     "too many of them"),
    ("depths_no_way_back", {"transformer_layers_per_block": [[1], [2]]}, "lists, but not for the way up"),
    ("depths_up_number", {"reverse_transformer_layers_per_block": 2}, "a number for the way up"),
    ("depths_up_three", {"reverse_transformer_layers_per_block": [1, 2, 3]}, "three depths for the way up"),
    ("depths_text", {"transformer_layers_per_block": [1, "2"]}, "a text for a depth"),
    ("depths_high", {"transformer_layers_per_block": [1, 1001]}, "a depth over the limit"),
    ("depths_null", {"reverse_transformer_layers_per_block": None}, "null for the way up"),
]:
    seed("config", "unet_" + name, js(**{**UNET, **keys}), why, **({"e": 4, "m": 8} if name == "lists" else {}))
SCHEDULER = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
for name, keys, why in [
    ("karras", {"use_karras_sigmas": True}, "Karras' sigmas"),
    ("low", {"num_train_timesteps": -(1 << 40)}, "a number under the limit"),
    ("high", {"num_train_timesteps": 1 << 40}, "a number over the limit"),
    ("timestep_type", {"timestep_type": "continuous"}, "timesteps that we have not"),
    ("interpolation", {"interpolation_type": "log_linear"}, "an interpolation that we have not"),
    ("final", {"final_sigmas_type": "sigma_min"}, "an end that we have not"),
    ("trailing", {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, "zero SNR"),
    ("class", {"_class_name": 7}, "a number for a class"),
]:
    seed("config", "scheduler_" + name, js(**{**SCHEDULER, **keys}), why, **({"m": 8} if name == "trailing" else {}))

# ---------------------------------------------------------------- tokenizers

# As the target wants them: one file after another, 0xff between.
SMALL = pathlib.Path("tests/golden/tokenizer")
PARTS = ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"]


def files_seed(name, files, why, **faults):
    seed("tokenizer", name, b"\1" + b"\xff".join(files.get(p, b"") for p in PARTS), why, **faults)


for folder in [SMALL] + sorted((BAD / "tokenizer").iterdir()):
    kept = {p: (folder / p).read_bytes() for p in PARTS if (folder / p).exists()}
    for p in PARTS[:2]:
        kept.setdefault(p, (SMALL / p).read_bytes())
    files_seed(f"folder-{folder.name}", kept, "a folder of the tests")
for file in sorted((BAD / "prompt").iterdir()):
    seed("tokenizer", f"prompt-{file.name}", b"\2" + file.read_bytes(), "a prompt that is refused")

VOCAB = {"a": 0, "b": 1, "ab": 2, "<|startoftext|>": 3, "<|endoftext|>": 4, "a</w>": 5, "b</w>": 6, "ab</w>": 7, "é</w>": 8}
MERGES = b"#version: 0.2\na b</w>\na b\n"
TINY = {"vocab.json": js(**VOCAB), "merges.txt": MERGES}


def tiny(name, why, faults={}, vocab={}, whole=None, **files):
    """The tiny vocabulary with more tokens and other files; _ for the dot of their names."""
    kept = dict(TINY)
    if vocab:
        kept["vocab.json"] = json.dumps({**VOCAB, **vocab}).encode()
    if whole is not None:
        kept = {"tokenizer.json": whole if isinstance(whole, bytes) else json.dumps(whole).encode()}
    for key, data in files.items():
        kept[{"merges": PARTS[1], "config": PARTS[2], "special": PARTS[3], "added": PARTS[4]}[key]] = data
    files_seed(f"tiny-{name}", {k: v for k, v in kept.items() if v is not None}, why, **faults)


MODEL_JSON = {"type": "BPE", "vocab": VOCAB, "merges": ["a b", ["a", "b</w>"]]}
DECODER = {"4": {"content": "<|endoftext|>", "special": True}, "9": {"content": "<x>", "lstrip": True, "rstrip": True},
           "10": {"content": "É Z", "normalized": True}, "11": {"content": "<x>>"}, "12": {"content": ""}}
SPECIAL = {n + "_token": "<|endoftext|>" for n in ("eos", "unk", "sep", "pad", "cls", "mask")}
tiny("plain", "a vocabulary and merges", {"m": 60, "e": 30, "s": 12, "i": 8})
tiny("all", "every file but tokenizer.json", {"m": 90, "e": 40}, config=js(tokenizer_class="CLIPTokenizer", padding_side="right",
     truncation_side="right", model_max_length=8), special=js(**SPECIAL, bos_token={"content": "<|startoftext|>", "lstrip": False},
                                                              additional_special_tokens=["<x>", "ab"], extra_special_tokens=["<x>"]),
     added=js(**{"<x>": 9, "<y>": 10}))
tiny("decoder", "added tokens with all their flags", {"m": 80}, config=js(added_tokens_decoder=DECODER,
     bos_token={"content": "<|startoftext|>", "normalized": True}, extra_special_tokens=["b", "<x>", "ab"]))
tiny("decoder_map", "tokens declared twice", config=js(added_tokens_decoder=DECODER), special=js(bos_token=7))
tiny("whole", "tokenizer.json alone", {"m": 80, "e": 20}, whole={"model": MODEL_JSON, "added_tokens": [
    {"content": "<x>", "id": 9, "special": True}, {"content": "<|endoftext|>", "id": 4, "special": True}]})
for name, model in [("type", {**MODEL_JSON, "type": "Unigram"}), ("type_number", {**MODEL_JSON, "type": 1}),
                    ("no_merges", {"vocab": VOCAB}), ("one", {**MODEL_JSON, "merges": ["ab"]}),
                    ("three", {**MODEL_JSON, "merges": [["a", "b", "c"]]}), ("numbers", {**MODEL_JSON, "merges": [["a", 1]]}),
                    ("number_first", {**MODEL_JSON, "merges": [[1, "a"]]}), ("unknown", {**MODEL_JSON, "merges": [["z", "a"]]}),
                    ("unknown_right", {**MODEL_JSON, "merges": [["a", "z"]]}), ("unknown_both", {**MODEL_JSON, "merges": ["b a"]})]:
    tiny(f"whole_{name}", "another model or merge", whole={"model": model})
tiny("whole_tokens", "an added token that is a number", whole={"model": MODEL_JSON, "added_tokens": [7]})
tiny("whole_text", "an added token that is its text", whole={"model": MODEL_JSON, "added_tokens": ["ab", {"content": 1}]})
for name, config in [("class", {"tokenizer_class": "T5"}), ("class_number", {"tokenizer_class": 1}), ("side_null", {"padding_side": None}),
                     ("truncation", {"truncation_side": "left"}), ("split", {"split_special_tokens": True}),
                     ("length_text", {"model_max_length": "x"}), ("length_1", {"model_max_length": 1}),
                     ("length_big", {"model_max_length": 10 ** 30}), ("decoder_id", {"added_tokens_decoder": {"x": "a"}}),
                     ("decoder_tail", {"added_tokens_decoder": {"4x": "a"}}), ("decoder_minus", {"added_tokens_decoder": {"-1": "a"}}),
                     ("decoder_huge", {"added_tokens_decoder": {"99999999": "a"}}), ("decoder_empty", {"added_tokens_decoder": {"": "a"}}),
                     ("word", {"added_tokens_decoder": {"0": {"content": "a", "single_word": True}}}),
                     ("no_text", {"added_tokens_decoder": {"0": {}}}), ("unk_empty", {"unk_token": ""}), ("bos_null", {"bos_token": None}),
                     ("eos_list", {"eos_token": []}), ("pad_unknown", {"pad_token": "zz"}), ("unk_flags", {"unk_token": {
                         "content": "<|endoftext|>", "rstrip": True}}), ("extra_unknown", {"extra_special_tokens": ["zz"]}),
                     ("additional_unknown", {"additional_special_tokens": ["zz"]}), ("mask", {"mask_token": "zz"})]:
    tiny(f"config_{name}", "what a configuration may hold", config=js(**config))
tiny("special_bad", "a map of special tokens that is none", config=js(), special=b"[]")
tiny("added_bad", "added tokens that are none", added=b"{")
tiny("added_id", "a text for an id", added=js(zz="x", zy=3))
tiny("merge_none", "a line without a space", merges=b"ab\n")
tiny("merge_spaces", "two spaces", merges=b"a b c\n")
tiny("merge_twice", "a merge twice", merges=b"a b\r\na b\r\n")
tiny("merge_end", "no line feed at the end", merges=b"#version\n\na b")
tiny("no_vocab", "no vocabulary", vocab={}, whole=b"{}")
files_seed("only_merges", {"merges.txt": MERGES}, "no vocabulary beside the merges")
files_seed("only_vocab", {"vocab.json": TINY["vocab.json"]}, "no merges beside the vocabulary")
tiny("ids_twice", "one id twice", vocab={"c": 0})
tiny("ids_real", "an id with a fraction", vocab={"c": 1.5})
tiny("ids_minus", "a negative id", vocab={"c": -1})
tiny("ids_text", "a text for an id", vocab={"c": "1"})
tiny("ids_huge", "an id over the limit", vocab={"c": 1 << 24})

# Texts under the vocabulary of the tests.
for name, text_, why, faults in [
    ("words", "A lazy Dog's 42 dogs, <|startoftext|> <|ENDOFTEXT|>!".encode(), "words of every kind", {"m": 24}),
    ("space", "a\u2003\u2028\u2029\x85\t\n\x0b b\u00a0 ".encode(), "white space of every kind", {}),
    ("special", b"<|startoftext|>a <|endoftext|> <|endoftext|>b<|endoftext", "added tokens between words", {"m": 20}),
    ("utf8", b"a\xc3\x28\xe0\x9f\x80\xed\xa0\x80\xf0\x8f\x80\x80\xf4\x90\x80\x80\xf5\xff\xc0\x80\xe2\x82\xf0\x9f\x98", "broken UTF-8", {}),
    ("planes", "é Ω \u4e00 \U0001f600 \U0010ffff".encode(), "characters of two, three and four bytes", {}),
    ("dotted", "\u0130I\u0131\u03a3\u03c2".encode(), "letters whose lowercase is special", {}),
    ("marks", "a\u0301\u0323e\u0315\u0300\u05ae\u0062 q\u0307\u0323".encode(), "marks to be put in order", {}),
    ("young", "a\u07fd\u0301 \u0898\u08ca\u09fe\U0001e4ec\U0001e08f\U00011f41".encode(), "marks younger than the tables", {}),
    ("hangul", "\u1100\u1161\u11a8 \uac00\u11a7 \u1161\u11a7\uac01".encode(), "Hangul, joined and apart", {}),
    ("compat", "\ufb01\u212b\u2126\u1e9b\u0344\uf900".encode(), "characters that decompose", {}),
    ("long", b"abababababab" * 30, "a long word of many merges", {}),
    ("merges", b"watercolorblackcirclecloudrightboatabove blackblacklarge lowlowblueangle threeorange " * 3, "merges that compete", {}),
    ("digits", b"1234567890" * 20 + b"'s 't 're 've 'm 'll 'd '", "digits and endings", {}),
    ("nothing", b"", "nothing", {"m": 8}),
    ("blank", b" \n\t ", "only white space", {"m": 12}),
    ("many", b"a " * 400, "many words", {"m": 24}),
]:
    seed("tokenizer", f"text-{name}", b"\2" + text_, why, **faults)

# ---------------------------------------------------------------- safetensors and the files around them


def safetensors(header, data=b""):
    text_ = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text_)) + text_ + data


def tensors(*of, metadata=None):
    """A good file: (name, type, bytes of a value, shape) each."""
    header, at = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, kind, size, shape in of:
        n = size
        for d in shape:
            n *= d
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    return safetensors(header, bytes(i % 251 for i in range(at)))


TYPES = [("U64", 8), ("I64", 8), ("F64", 8), ("F32", 4), ("U32", 4), ("I32", 4), ("BF16", 2), ("F16", 2), ("U16", 2), ("I16", 2),
         ("F8_E4M3", 1), ("F8_E5M2", 1), ("I8", 1), ("U8", 1), ("BOOL", 1)]
FEW = tensors(("b", "F16", 2, [3]), ("a", "F32", 4, [2, 1]), ("c", "F32", 4, []), metadata={"k": "v", "a": "b"})
for name, data, why, faults in [
    ("types", tensors(*[(f"t{k}", k, n, [2, 3]) for k, n in TYPES]), "every type", {"m": 60, "e": 40}),
    ("few", FEW, "two types, a scalar, metadata", {"m": 80, "e": 40, "n": 16, "s": 24, "i": 24}),
    ("one", tensors(("a", "F16", 2, [4])), "one tensor", {"m": 40, "e": 40, "s": 16}),
    ("nothing", safetensors({}), "no tensor", {}),
    ("metadata", safetensors({"__metadata__": {}}), "metadata without an entry", {}),
    ("long", tensors(("a", "U8", 1, [70000]), ("b", "F16", 2, [9000])), "more than is converted at once",
     {"e": 20}),
    ("empties", tensors(("z", "F32", 4, [0]), ("y", "F32", 4, [0, 5]), ("a", "F32", 4, [1]), ("x", "F32", 4, [2, 0])),
     "tensors without a value", {}),
    ("eight", tensors(("a", "F32", 4, [1, 2, 1, 2, 1, 1, 1, 1]), ("b", "F32", 4, [10000, 0, 10000]), ("c", "F32", 4, [10000, 0] * 3)),
     "as many sizes as may be, and as are too long to tell", {}),
    ("thirds", tensors(("a", "F32", 4, [3, 4]), ("b", "F16", 2, [6, 2, 2]), ("c", "F8_E4M3", 1, [2, 3]), ("d", "U8", 1, [0, 3])),
     "what views can be made of", {"m": 40, "e": 30}),
    ("scaled", tensors(("a.weight", "F8_E4M3", 1, [2, 3]), ("a.scale_weight", "F32", 4, []), ("b.weight", "F8_E5M2", 1, [4]),
                       ("b.weight_scale", "F32", 4, [1]), ("c.bias", "F8_E5M2", 1, [3])), "8-bit floats with a scale", {"m": 30, "e": 40}),
    ("two_scales", tensors(("a.weight", "F8_E4M3", 1, [2, 3]), ("a.weight_scale", "F32", 4, [2])), "more scales than one", {}),
    ("unknown", tensors(("a", "F4", 1, [4]), ("b", "F32", 4, [1])), "a type that nobody knows beside a good one", {"m": 20}),
    ("same_name", safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
                              b',"c":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}', b"xy"), "not in the order of the offsets", {}),
]:
    seed("safetensors", name, data, why, **faults)


def codes(how, *of):
    """Codes as "calotype.quantised" calls them: (name, type, shape) each, floats are 0.5."""
    half, header, data = {"F32": struct.pack("<f", 0.5), "F16": struct.pack("<e", 0.5)}, {"__metadata__": {"calotype.quantised": how}}, b""
    for name, kind, shape in of:
        n = 1
        for d in shape:
            n *= d
        values = half[kind] * n if kind in half else bytes(i % 251 for i in range(n))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    return safetensors(header, data)


# More values than are decoded at a time, rows that end in a part of a group.
LONG8, LONG4 = [("w.weight", kind, shape) for kind, shape in (("I8", [3, 4100]), ("U8", [3, 2050]))]
ROWS, GROUPS = ("w.weight_scale", "F32", [3]), ("w.weight_scale", "F16", [3, 129])
for name, data, why, faults in [
    ("q8", codes("q8", LONG8, ROWS), "8 bits", {"m": 40, "e": 60}),
    ("q4", codes("q4", LONG4, GROUPS, ("w.weight_minimum", "F16", [3, 129])), "4 bits", {"m": 40, "e": 60}),
    ("q8_balanced", codes("q8-balanced", ("w.weight", "U8", [3, 4100]), ROWS, ("w.weight_levels", "F32", [256])), "8 bits and a table",
     {"e": 60}),
    ("q4_balanced", codes("q4-balanced", LONG4, GROUPS, ("w.weight_levels", "F32", [16])), "4 bits and a table", {"e": 60}),
    ("q8_kernel", codes("q8", ("w.weight", "I8", [3, 2, 3, 3]), ROWS), "a convolution", {}),
    ("q8_others", codes("q8", ("w", "I8", [2, 2]), ("w.bias_", "I8", [2, 2]), ("v.weight", "I8", [3]), ("u.weight", "F32", [2, 2])),
     "what holds no codes", {}),
    ("q8_long_name", codes("q8", ("w" * 1014 + "weight", "I8", [2, 2])), "a name that a scale's has no room for", {}),
]:
    seed("safetensors", name, data, why, **faults)

# ---------------------------------------------------------------- LoRAs of the target's model (fuzz_lora.c)

TO_Q, CONV = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.resnets.0.conv1"
MLP = "text_encoder.text_model.encoder.layers.1.mlp.fc1"


def pair(layer, down, up, kind="F32", size=4):
    return (f"{layer}.lora_A.weight", kind, size, down), (f"{layer}.lora_B.weight", kind, size, up)


def told(**said):
    return {"lora_adapter_metadata": json.dumps(said)}


ROOT = {"unet.use_rslora": True, "unet.lora_alpha": 4, "unet.use_dora": False, "unet.alpha_pattern": {}, "text_encoder.lora_alpha": -2.5}
for name, data, why, faults in [
    ("peft", tensors(*pair("base_model.model." + TO_Q, [4, 8], [8, 4]), *pair(MLP, [2, 12], [24, 2]), metadata=told(**ROOT)),
     "peft's names, an alpha by the rank's root", {"m": 90, "e": 30, "s": 20, "i": 20}),
    ("two_encoders", tensors(*pair(MLP.replace("text_model.", ""), [1, 12], [24, 1]), *pair("text_encoder_2.text_projection", [3, 12], [12, 3])),
     "both text encoders, without the first one's own name", {}),
    ("kernels", tensors(*pair("unet." + TO_Q, [2, 8, 1, 1], [8, 2, 1, 1]), *pair("unet." + CONV, [2, 8, 3, 3], [8, 2])),
     "kernels of one value, and none", {"m": 60}),
    ("halves", tensors(*pair("unet." + TO_Q, [2, 8], [8, 2], "BF16", 2), (f"unet.{TO_Q}.alpha", "F64", 8, [1])), "other types", {}),
    ("large_rank", tensors(*pair("unet." + TO_Q, [300, 8], [8, 300])), "a rank above the layer's", {}),
    ("no_metadata", tensors(*pair("unet." + TO_Q, [2, 8], [8, 2]), metadata={"lora_adapter_metadata": "{}", "format": "pt"}), "nothing said", {}),
    ("up_cube", tensors(*pair("unet." + TO_Q, [2, 8], [8, 2, 1])), "a second factor of three dimensions", {}),
    ("kernel_wide", tensors(*pair("unet." + TO_Q, [2, 8, 1, 2], [8, 2, 1, 1])), "a kernel for a matrix", {}),
    ("kernel_low", tensors(*pair("unet." + CONV, [2, 8, 1, 3], [8, 2, 1, 1])), "a kernel of fewer rows", {}),
    ("codes", codes("q8", ("unet." + TO_Q + ".lora_A.weight", "I8", [2, 8]), ("unet." + TO_Q + ".lora_A.weight_scale", "F32", [2])),
     "codes, whose scales are no part of a LoRA", {}),
]:
    seed("lora", name, data, why, **faults)


def shards(**of):
    return json.dumps({"metadata": {"total_size": 16}, "weight_map": of}).encode()


ONE, TWO = "good-1.safetensors", "good-2.safetensors"
for name, data, why, faults in [
    ("both", shards(a=ONE, b=TWO), "two shards", {"m": 60, "e": 30, "s": 12}),
    ("again", shards(b=TWO, a=ONE) [:-1] + b"}", "the shards in another order", {}),
    ("one", shards(a=ONE), "a shard", {"m": 40}),
    ("same", json.dumps({"weight_map": {"a": ONE, "b": ONE}}).encode(), "a tensor in a shard that is open and lacks it", {}),
    ("first_wrong", shards(x=ONE, a=ONE), "what comes after a wrong one is left alone", {}),
    ("nothing", shards(), "an index of nothing", {}),
    ("map_null", b'{"weight_map": null}', "null for the map", {}),
    ("whole", FEW, "a whole file", {"m": 60, "e": 30}),
    ("whole_3", tensors(("a", "F32", 4, [3, 1, 4]), ("b", "F32", 4, [3, 1, 5])), "a tensor of the other shape", {}),
    ("whole_none", safetensors({}), "a whole file without a tensor", {}),
    ("pipeline", js(_class_name="StableDiffusionPipeline", unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", None],
                    safety_checker=[None, None], requires=False, sizes=[1, 2, 3]), "a pipeline", {"m": 30, "e": 20}),
    ("pipeline_good", js(_class_name="X", unet=["diffusers", "U"], vae=["diffusers", "V"]), "two components", {"m": 30}),
    ("pipeline_name", js(**{"_class_name": "X", "..": ["a", "b"], "u": ["a", "b"]}), "a component above the folder", {}),
    ("pipeline_class", js(_class_name=7), "a number for a class", {}),
    ("pipeline_none", js(unet=["a", "b"]), "no class", {}),
    ("pipeline_pair", js(_class_name="X", u=[1, "b"], v=["a", 1]), "no pair of texts", {}),
]:
    seed("index", name, data, why, **faults)

# ---------------------------------------------------------------- the hub's cache

SHA = "0123456789abcdef0123456789abcdef01234567"
for name, text, why, faults in [
    ("cache", f"c\norg/name\n{SHA}", "the variable of the cache itself", {"m": 20, "e": 12, "s": 8, "i": 8}),
    ("home", f"Ch\norg/name\n{SHA}\n", "that of the hub's folder", {"m": 8}),
    ("xdg", f"x\norg/name\n \t{SHA} \r\n", "that of all caches; space on both sides", {"m": 8}),
    ("user", f"CHX~\norg/name\n{SHA}", "the user's folder", {"m": 8}),
    ("nowhere", f"\norg/name\n{SHA}", "no variable", {}),
    ("other", "c\norg/other\n", "a model that is not there", {}),
    ("no_ref", "c\norg/name", "a model without refs/main", {}),
    ("empty", "c\norg/name\n\n \n", "nothing but space", {}),
    ("up", "c\norg/name\n..", "the folder above", {}),
    ("path", "c\norg/name\na/b", "a path", {}),
    ("nul", "c\norg/name\na\0b", "a NUL", {}),
    ("long", "c\norg/name\n" + "a" * 200, "more than a name has", {}),
    *[(f"name_{i}", f"c\n{n}\n{SHA}", "a name that is one, or none", {}) for i, n in enumerate(
        ["", "org", "org/", "/name", "a/b/c", ".a/b", "a/.b", "a b/c", "a/b c", "a" * 97 + "/b", "a/" + "b" * 97, "A-1_./z.Z", "é/b"])],
]:
    seed("hub", name, text.encode(), why, **faults)

# ---------------------------------------------------------------- torch's files

CKPT = pathlib.Path("tests/golden/ckpt")
for name, why, faults in [
    ("model_a.ckpt", "tensors of a dictionary", {"m": 60, "e": 30, "s": 12, "i": 6}),
    ("views.ckpt", "tensors that share storages", {"m": 60, "e": 30, "s": 12}),
    ("trainer.ckpt", "what trainers put around them", {"m": 90}),
    ("protocol4.ckpt", "another protocol of pickles", {"m": 40}),
]:
    seed("ckpt", name, (CKPT / name).read_bytes(), why, **faults)

# ---------------------------------------------------------------- checkpoints: lists of tensors (fuzz_checkpoint.c)

UNET, VAE = "model.diffusion_model.", "first_stage_model."


def resnet(at, channels):
    return [f"{at}.in_layers.0.weight {channels}", f"{at}.in_layers.2.weight {channels} {channels} 3 3",
            f"{at}.out_layers.0.weight {channels}", f"{at}.out_layers.3.weight {channels} {channels} 3 3", f"{at}.out_layers.3.bias {channels}"]


def transformer(at, channels, text_, depth, linear):
    return [f"{at}.proj_in.weight {channels} {channels}" + ("" if linear else " 1 1")] + [
        line for d in range(depth) for line in (f"{at}.transformer_blocks.{d}.norm1.weight {channels}",
                                                f"{at}.transformer_blocks.{d}.attn2.to_k.weight {channels} {text_}")]


def unet(widths=(320, 640), text_=768, depths=None, layers=2, linear=False, inputs=4, middle=1, added=None, first=0):
    """What tells a UNet, in the original layout. depths: of a level's transformers, or a list for each resnet."""
    depths = depths or [1] * len(widths)
    of = lambda i, j: depths[i][j] if isinstance(depths[i], list) else depths[i]
    out, k = [f"{UNET}input_blocks.0.0.weight {widths[0]} {inputs} 3 3", f"{UNET}out.2.weight 4 {widths[0]} 3 3"], 1
    for i, width in enumerate(widths):
        for j in range(layers):
            out += resnet(f"{UNET}input_blocks.{k}.0", width) if i >= first else []
            out += transformer(f"{UNET}input_blocks.{k}.1", width, text_, of(i, j), linear) if of(i, j) else []
            k += 1
        if i < len(widths) - 1:
            out.append(f"{UNET}input_blocks.{k}.0.op.weight {width} {width} 3 3")
            k += 1
    for i in range(len(widths) - 1, -1, -1):
        for j in range(layers + 1):
            at = f"{UNET}output_blocks.{(len(widths) - 1 - i) * (layers + 1) + j}"
            out += resnet(f"{at}.0", widths[i])
            out += transformer(f"{at}.1", widths[i], text_, of(i, min(j, layers - 1)), linear) if of(i, min(j, layers - 1)) else []
    if middle >= 0:
        out += resnet(f"{UNET}middle_block.0", widths[-1]) + resnet(f"{UNET}middle_block.2", widths[-1])
        out += transformer(f"{UNET}middle_block.1", widths[-1], text_, middle, linear) if middle else []
    return out + ([f"{UNET}label_emb.0.0.weight 1280 {added}"] if added else [])


def vae(prefix=VAE, levels=2, attention=True):
    out = [f"{prefix}encoder.conv_in.weight 128 3 3 3", f"{prefix}decoder.conv_in.weight 512 4 3 3", f"{prefix}decoder.conv_out.weight 3 128 3 3",
           f"{prefix}quant_conv.weight 8 8 1 1", f"{prefix}decoder.mid.block_1.conv1.weight 512 512 3 3"]
    for i in range(levels):
        for j in range(2):
            at = f"{prefix}encoder.down.{i}.block.{j}"
            out += [f"{at}.conv1.weight {128 << i} 128 3 3", f"{at}.norm2.weight {128 << i}", f"{at}.conv2.bias {128 << i}"]
    return out + ([f"{prefix}decoder.mid.attn_1.q.weight 512 512 1 1"] if attention else [])


def clip(prefix="cond_stage_model.transformer.", width=768, layers=2):
    at = f"{prefix}text_model."
    return [f"{at}embeddings.token_embedding.weight 49408 {width}", f"{at}embeddings.position_embedding.weight 77 {width}",
            f"{at}encoder.layers.0.mlp.fc1.weight {4 * width} {width}"] + [f"{at}encoder.layers.{i}.layer_norm1.weight {width}" for i in range(layers)]


def open_clip(prefix="cond_stage_model.model.", width=1024, layers=3):
    return [f"{prefix}token_embedding.weight 49408 {width}", f"{prefix}positional_embedding 77 {width}", f"{prefix}text_projection {width} {width}",
            f"{prefix}transformer.resblocks.0.mlp.c_fc.weight {4 * width} {width}", f"{prefix}transformer.resblocks.0.attn.in_proj_weight {3 * width} {width}"
            ] + [f"{prefix}transformer.resblocks.{i}.ln_1.weight {width}" for i in range(layers)]


XL = dict(text_=2048, depths=[0, 2], linear=True, added=2816)
BOTH = clip("conditioner.embedders.0.transformer.") + open_clip("conditioner.embedders.1.model.", 1280)
SD1, SD2 = unet() + vae() + clip(), unet(text_=1024, linear=True) + vae() + open_clip()
for name, file, list_, why, faults in [
    ("sd1", "v1-5", SD1, "SD 1", {"m": 60, "e": 20, "s": 8}),
    ("sd1_alone", "m", unet(), "nothing but the UNet", {"m": 30}),
    ("sd2", "v2-1", SD2, "SD 2, prediction unknown", {"m": 60}),
    ("sd2_alone", "m", unet(text_=1024, linear=True), "told by the width of the text", {}),
    ("sd2_v", "m", SD2 + ["@modelspec.architecture stable-diffusion-v2-768-v"], "told by the architecture", {}),
    ("sd2_eps", "m", SD2 + ["@modelspec.architecture stable-diffusion-v2-512"], "and the other one", {}),
    ("sd2_said", "m", SD2 + ["@modelspec.prediction_type epsilon", "@modelspec.resolution 768x768"], "told by name, and the size", {"m": 40}),
    ("sd2_word", "m", SD2 + ["@modelspec.prediction_type sample", "@modelspec.resolution 7"], "words that are none", {}),
    ("sd2_marked", "m", SD2 + ["v_pred", "ztsnr"], "marks", {"m": 40}),
    ("sd2_turbo", "sd_turbo", SD2, "few steps, by the name of the file", {"m": 20}),
    ("sd2_inpaint", "m", unet(text_=1024, linear=True, inputs=9) + open_clip(), "nine channels", {}),
    ("sd2_one_layer", "m", unet(text_=1024) + open_clip(layers=1), "no layer but the one that is skipped", {}),
    ("edits", "m", unet(inputs=8) + clip(), "eight channels", {}),
    ("cascade", "m", SD1 + ["alphas_cumprod 1000"], "alphas that end at zero", {"m": 20, "e": 30, "s": 16}),
    ("alphas", "m", SD1 + ["!alphas_cumprod 1000"], "alphas that do not", {}),
    ("alphas_2d", "m", SD1 + ["alphas_cumprod 10 100"], "a table of alphas", {}),
    ("alphas_none", "m", SD1 + ["alphas_cumprod 0"], "no alphas", {}),
    ("xl", "sdxl", unet(**XL) + vae(levels=4) + BOTH, "SDXL", {"m": 30}),
    ("xl_edits", "m", unet(**XL, inputs=8) + BOTH, "eight channels", {}),
    ("xl_inpaint", "m", unet(**XL, inputs=9) + BOTH, "nine", {}),
    ("xl_lightning", "m", unet(**XL) + ["@modelspec.title SDXL Lightning 8 steps", "@ss_output_name x"], "few steps, by the title", {}),
    ("xl_pruned", "m", unet(**{**XL, "depths": [[0, 0], [1, 2]]}) + BOTH, "depths that differ in a level", {"m": 40}),
    ("xl_without_middle", "m", unet(**XL, middle=-1), "no middle", {}),
    ("xl_plain_middle", "m", unet(**XL, middle=0), "a middle without attention", {}),
    ("refiner", "m", unet(text_=1280, depths=[0, 4], linear=True, added=2560) + vae() + open_clip("conditioner.embedders.0.model.", 1280),
     "SDXL's refiner", {"m": 20}),
    ("names", "m", unet() + ["@modelspec.architecture lcm", "@ss_output_name hyper"], "the first word counts", {}),
    ("hyper", "m", unet() + ["@ss_output_name myHyperModel-4steps", "@modelspec.title hyperbole turbolader XLTurbo"], "words in words", {}),
    ("steps", "m", unet() + ["@modelspec.title lcm 99step step 3-steps"], "numbers of steps that are too large", {}),
    ("one_level", "m", unet(widths=(64,), depths=[1], layers=1) + vae(levels=1, attention=False), "as small as may be", {}),
    ("half", "m", unet(first=1) + vae("vae.") + clip(layers=0), "a level is missing on the way down", {}),
    ("no_text", "m", [line for line in unet() if "attn2" not in line], "a UNet that reads no text", {}),
    ("flat_text", "m", [line.rsplit(" ", 1)[0] if "attn2" in line else line for line in unet()], "texts of one dimension", {}),
    ("no_input", "m", [line for line in unet() if "input_blocks.0.0" not in line], "no first convolution", {}),
    ("flat_input", "m", [line.rsplit(" ", 2)[0] if "input_blocks.0.0" in line else line for line in unet()], "one of two dimensions", {}),
    ("no_resnet", "m", [line for line in unet() if "_layers" not in line] + clip(width=0) + ["vae.decoder.up.0.x 1"], "no resnet", {}),
    ("no_words", "m", unet() + clip()[1:], "no vocabulary", {}),
    ("no_rest", "m", unet() + [clip()[0], clip()[-1]], "no places", {}),
    ("upscaler", "m", unet() + [f"{UNET}label_emb.weight 1000 1280"], "SD 2's upscaler", {}),
    ("unclip", "m", unet(added=2048) + open_clip(), "SD 2 unCLIP", {}),
    ("edm", "m", unet() + ["edm_vpred.sigma_max"], "EDM", {}),
    ("lora", "m", ["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight 4 8", "lora_unet_mid_block_attentions_0_proj_in.alpha"], "a LoRA", {"m": 20}),
    ("other", "m", ["a 1 2", "b 3"], "something else", {}),
    *[(f"lora_{width}", "m", [f"lora_unet_x_attn2_to_k.lora_down.weight 4 {width}"], "a LoRA, whose model its width tells or not", {})
      for width in (768, 1024, 2048, 3)],
    ("lora_flat", "m", ["x_attn2_to_k.lora_down.weight 4"], "a LoRA of one dimension", {}),
    ("lora_xl", "m", ["lora_te2_text_projection.lora_down.weight 4 8"], "a second text encoder's", {}),
    ("inversion", "m", ["emb_params 2 768"], "textual inversion", {}),
    ("inversion_xl", "m", ["clip_g 2 1280", "clip_l 2 768"], "that of SDXL", {}),
    ("text_xl", "m", ["conditioner.embedders.1.model.ln_final.weight 8"], "a part of SDXL", {}),
    ("nothing", "m", [], "no tensor", {}),
    ("size_large", "m", unet() + ["@modelspec.resolution 8200"], "larger than pictures are", {}),
    ("size_odd", "m", unet() + ["@modelspec.resolution 516"], "no multiple of 8", {}),
    ("added_flat", "m", unet() + [f"{UNET}label_emb.0.0.weight 1280"], "a vector where the added features are read", {}),
    ("hyper_words", "a_hyper", unet() + ["@modelspec.title HyperRealistic xhyper", "@ss_output_name hyper realism"], "ordinary names, and the last word", {}),
    ("hyper_sd", "m", unet() + ["@modelspec.title Hyper-SD15"], "a word that tells by the next one", {}),
    ("hyper_steps", "m", unet() + ["@modelspec.title my hyper 8step"], "or by a number", {}),
    ("hyper_suffix", "m", unet() + ["@modelspec.title my.hyper.x"], "or as the last before a point", {}),
    ("lightning_words", "lightning.x", unet() + ["@modelspec.title lightnings", "@ss_output_name lightning storm"], "the weather, and a name alone", {}),
    ("lightning_alone", "m", unet() + ["@modelspec.title lightning"], "alone", {}),
    ("lightning_steps", "m", unet() + ["@modelspec.title lightning 4step"], "the first of several words, and a number", {}),
    ("lightning_xl", "m", unet() + ["@modelspec.title lightning xl"], "or XL", {}),
    ("steps_first", "step1-turbo", SD2 + ["@ss_output_name lcmx"], "a number behind its word", {}),
    ("few_only", "4", unet() + ["@modelspec.title 2steps_lcm"], "a number at the very beginning", {}),
    ("step_alone", "4", unet() + ["@modelspec.title step lcm"], "a step without a number", {}),
    ("up_only", "m", [line for line in unet() if "input_blocks.1.1" not in line and "input_blocks.2.1" not in line], "text on the way up only", {}),
    ("middle_only", "m", [line for line in unet(depths=[1, 0], middle=3) if "output_blocks" not in line], "the middle's depth for a level", {}),
    ("up_differs", "m", [line for line in unet(depths=[2, 2]) if "output_blocks.0.1.transformer_blocks.1" not in line], "a depth that differs on the way up", {}),
    ("narrow", "m", unet(widths=(32, 48), linear=True) + clip(width=40) + vae(attention=False)[2:] + [f"{VAE}encoder.mid.attn_1.q.weight 8 8 1 1"],
     "less than a head, an encoder's attention", {}),
    ("bare_vae", "m", unet() + [line for line in vae() if "quant" not in line and "decoder.conv" not in line], "nothing tells the latents", {}),
    ("post_quant", "m", unet() + vae()[4:] + [f"{VAE}post_quant_conv.weight 4 4 1 1"], "one of the two", {}),
    ("no_output", "m", [line for line in unet() if "out.2" not in line], "no last convolution", {}),
    ("thirds", "m", unet(text_=1024, linear=True) + open_clip() + [f"cond_stage_model.model.transformer.resblocks.{i}.attn.{n} 3072 1024" for i in
     ("1", "01", "1234567890") for n in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "x")], "matrices of three", {}),
    ("upsamplers", "m", unet() + [f"{UNET}output_blocks.{i}.{k}.conv.{n} 320" for i in (2, 5) for k in (1, 2) for n in ("weight", "bias")]
     + [f"{UNET}output_blocks.2.1.norm.weight 640"], "convolutions behind a level with and without text", {}),
    ("long_names", "m", unet() + [f"{UNET}middle_block.1." + "x" * n for n in range(470, 500, 2)] + ["cond_stage_model.transformer." + "y" * 490, UNET],
     "names as long as may be, and one of nothing", {}),
    ("all_of_them", "m", SD1 + ["@modelspec.title SD Turbo", "@modelspec.resolution 512", "ztsnr", "v_pred", "alphas_cumprod 1"], "all that can be found", {}),
    ("far", "m", unet() + [f"{UNET}input_blocks.99999999999.0.x 1", f"{UNET}input_blocks.39.0.in_layers.2.weight 1", f"{UNET}output_blocks.-1.0.x 1",
                           f"{UNET}middle_block.1.transformer_blocks.7.x 1", UNET + "x" * 600, f"{VAE}decoder.up.39.block.0.conv1.weight 1",
                           f"{VAE}decoder.up.40.upsample.conv.weight 1"], "numbers of blocks that are none", {}),
]:
    seed("checkpoint", name, "\n".join([file, *list_]).encode(), why, **faults)

# ---------------------------------------------------------------- upscalers: lists of tensors (fuzz_upscaler.c)

def dense(features=4, growth=2, blocks=1, doublings=2, inputs=3, prefix="", names=None):
    """A network's tensors; `names` makes another layout of BasicSR's names."""
    out = []

    def conv(name, to, of):
        name = prefix + (names(name) if names else name)
        out.extend([f"{name}.weight {to} {of} 3 3", f"{name}.bias {to}"])

    conv("conv_first", features, inputs)
    for i in range(blocks):
        for j in 1, 2, 3:
            for k in range(5):
                conv(f"body.{i}.rdb{j}.conv{k + 1}", features if k == 4 else growth, features + k * growth)
    conv("conv_body", features, features)
    for k in range(doublings):
        conv(f"conv_up{k + 1}", features, features)
    conv("conv_hr", features, features)
    conv("conv_last", 3, features)
    return out


def old(blocks=1, doublings=2):
    ends = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}", "conv_up1": "model.3", "conv_up2": "model.6", "conv_up3": "model.9",
            "conv_hr": f"model.{3 * doublings + 2}", "conv_last": f"model.{3 * doublings + 4}"}

    def name(ours):
        if ours in ends:
            return ends[ours]
        _, i, rdb, convolution = ours.split(".")
        return f"model.1.sub.{i}.{rdb.upper()}.{convolution}.0"
    return name


def trunk(ours):
    ends = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}
    return ends.get(ours, ours.replace("body.", "RRDB_trunk.").replace("rdb", "RDB"))


def compact(features=4, layers=2, scale=2, prefix=""):
    out = [f"{prefix}body.0.weight {features} 3 3 3", f"{prefix}body.0.bias {features}", f"{prefix}body.1.weight {features}"]
    for i in range(1, layers):
        out += [f"{prefix}body.{2 * i}.weight {features} {features} 3 3", f"{prefix}body.{2 * i}.bias {features}", f"{prefix}body.{2 * i + 1}.weight {features}"]
    last = 3 * scale * scale
    return out + [f"{prefix}body.{2 * layers}.weight {last} {features} 3 3", f"{prefix}body.{2 * layers}.bias {last}"]


def without(lines, *words):
    return [line for line in lines if not any(w in line for w in words)]


def instead(lines, name, line):
    return [line if at.startswith(name + " ") else at for at in lines]


MARK = "body.0.rdb1.conv1.weight"
for name, file, list_, why, faults in [
    ("dense", "4x-small", dense(), "BasicSR's layout", {"m": 250, "e": 30, "i": 20, "s": 8}),
    ("two_blocks", "m", dense(blocks=2), "more than one block", {}),
    ("old", "m", dense(blocks=2, names=old(2)), "ESRGAN's layout", {"m": 60}),
    ("old_x2", "m", dense(doublings=1, names=old(1, 1)), "with other numbers at its end", {}),
    ("trunk", "m", dense(names=trunk), "the second layout", {"m": 40}),
    ("ema", "m", dense(prefix="params_ema.") + dense(prefix="params."), "what was averaged goes first", {}),
    ("params", "m", dense(prefix="params."), "inside of params", {}),
    ("module", "m", compact(prefix="module."), "inside of module", {}),
    ("x1", "m", dense(doublings=0), "no doubling", {}),
    ("x2_squares", "m", dense(inputs=12), "squares of four pixels", {}),
    ("x1_squares", "m", dense(inputs=48), "squares of sixteen", {}),
    ("x8", "m", dense(doublings=3), "as large as may be", {}),
    ("x16", "m", dense(doublings=4), "larger", {}),
    ("squares_too_large", "m", dense(inputs=12, doublings=0), "smaller than the picture", {}),
    ("inputs_5", "m", dense(inputs=5), "five input channels", {}),
    ("first_flat", "m", instead(dense(), "conv_first.weight", "conv_first.weight 4 27"), "a first convolution of two dimensions", {}),
    ("no_first", "m", without(dense(), "conv_first"), "no first convolution", {"m": 40}),
    ("mark_flat", "m", instead(dense(), MARK, MARK + " 72"), "a mark of one dimension", {}),
    ("mark_none", "m", instead(dense(), MARK, MARK + " 0 4 3 3"), "no growth", {}),
    ("mark_wide", "m", instead(dense(), MARK, MARK + " 1025 4 3 3"), "too much of it", {}),
    ("mark_no_features", "m", instead(dense(), MARK, MARK + " 2 0 3 3"), "no features", {}),
    ("mark_features", "m", instead(dense(), MARK, MARK + " 2 4000 3 3"), "too many", {}),
    ("more", "m", dense() + ["body.0.rdb1.conv1x1.weight 2 4 1 1"], "another architecture", {"m": 60}),
    ("missing", "m", without(dense(), "conv_hr", "rdb2"), "much is missing", {"m": 90}),
    ("compact", "m", compact(), "a compact network", {"m": 90}),
    ("compact_x1", "m", compact(scale=1), "of the same size", {}),
    ("compact_x8", "m", compact(scale=8, layers=1), "as large as may be", {}),
    ("compact_even", "m", without(compact(), "body.4"), "no last convolution", {}),
    ("compact_short", "m", without(compact(layers=1), "body.2"), "hardly any layer", {}),
    ("compact_out", "m", instead(compact(), "body.4.weight", "body.4.weight 13 4 3 3"), "results of no square", {}),
    ("compact_wide", "m", instead(compact(), "body.4.weight", "body.4.weight 243 4 3 3"), "nine times as large", {}),
    ("compact_flat", "m", instead(compact(), "body.4.weight", "body.4.weight 12"), "a last convolution that is a list", {}),
    ("slopes_2d", "m", instead(compact(), "body.1.weight", "body.1.weight 4 4"), "slopes of two dimensions", {}),
    ("slopes_none", "m", instead(compact(), "body.1.weight", "body.1.weight 0"), "no slopes", {}),
    ("nothing", "m", [], "no tensor", {}),
    ("other", "m", ["conv_first.weight 4 3 3 3", "weight 3"], "no mark", {}),
    ("metadata", "m", compact() + ["@name 4x", "@n 1"], "metadata, which says nothing", {}),
]:
    seed("upscaler", name, "\n".join([file, *list_]).encode(), why, **faults)

# ---------------------------------------------------------------- what A1111 writes into pictures

WORDS = "a boat\nin fog\nNegative prompt: rain,\nSteps: 1, wind\nSteps: 2, "
for name, text, why, faults in [
    ("usual", WORDS + 'Sampler: Euler, Schedule type: Karras, CFG scale: 7.5, Seed: 9, Size: 48x32, Model hash: 0123456789, '
     'Model: "x, \\u0041", RNG: CPU, Version: v1.6.0', "every kind of field", {"m": 10}),
    ("sampler_with_spacing", WORDS + "Sampler: DPM++ 2M SDE Karras, Seed: 9", "the spacing in the sampler's name", {}),
    ("automatic_karras", WORDS + "Sampler: DPM++ 2M, Schedule type: Automatic", "a sampler's own spacing", {}),
    ("automatic_exponential", WORDS + "Sampler: dpm++ 3m sde, Schedule type: automatic", "another", {}),
    ("automatic_normal", WORDS + "Sampler: Heun, Schedule type: Automatic", "a third", {}),
    ("own_spacing", WORDS + "Sampler: UniPC, Schedule type: Automatic", "a sampler with nothing to choose", {}),
    ("hires", WORDS + "Sampler: DPM fast, Denoising strength: 0.6, Hires upscale: 1.5, Hires steps: 3, Hires upscaler: Latent",
     "a second pass", {"m": 10}),
    ("hires_size", WORDS + "Sampler: DPM adaptive, Eta: 0.5, Denoising strength: 0.6, Hires resize: 96x64", "to a size", {}),
    ("img2img", WORDS + "Denoising strength: 0.4, Mask blur: 4, Inpaint area: Only masked", "a picture to begin with", {}),
    ("words", WORDS + "Noise Schedule: Zero Terminal SNR, Emphasis: No norm, RNG: NV, ENSD: 31337, Clip skip: 2", "words", {}),
    ("other_words", WORDS + "Emphasis: None, Noise Schedule: Karras, Inpaint area: Whole, Emphasis: Original", "others", {}),
    ("numbers", WORDS + "Size: 48, Size: x, Size: 999999999x9, Seed: 99999999999999999999, Steps: -1, CFG scale: nan",
     "numbers that are none", {}),
    ("cut", WORDS + 'Sampler: "DPM, ', "a string that does not end", {}),
    ("no_value", "Steps: 2, Sampler: , : , x", "fields without value, name or both", {}),
    ("only_steps", "Steps: 2", "nothing else", {}),
    ("negative_last", "a\nSteps: 3, Seed: 1\nNegative prompt: b", "the wrong way round", {}),
    ("no_steps", "a\nNegative prompt: b\n", "no fields", {}),
    ("nothing", "", "nothing", {}),
]:
    seed("infotext", name, text.encode(), why, **faults)
seed("infotext", "bytes", b'\xff\xfe\nNegative prompt: \xc3\nSteps: 2, Sampler: \xff, Model: "\\u0000"', "no UTF-8")

# ---------------------------------------------------------------- what others write as JSON

GRAPH = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dream.safetensors"}},
         "2": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "clip": ["1", 1]}},
         "3": {"class_type": "ModelSamplingDiscrete", "inputs": {"model": ["2", 0], "sampling": "v_prediction", "zsnr": True}},
         "4": {"class_type": "RescaleCFG", "inputs": {"model": ["3", 0], "multiplier": 0.7}},
         "5": {"class_type": "FreeU", "inputs": {"model": ["4", 0]}},
         "6": {"class_type": "CLIPSetLastLayer", "inputs": {"clip": ["2", 1], "stop_at_clip_layer": -2}},
         "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["6", 0], "text": "a boat"}},
         "8": {"class_type": "PrimitiveString", "inputs": {"value": "rain"}},
         "9": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["6", 0], "text": ["8", 0]}},
         "10": {"class_type": "EmptyLatentImage", "inputs": {"width": 48, "height": 32, "batch_size": 2}},
         "11": {"class_type": "KSampler", "inputs": {
             "model": ["5", 0], "positive": ["7", 0], "negative": ["9", 0], "latent_image": ["10", 0], "seed": 9, "steps": 2,
             "cfg": 3, "sampler_name": "dpmpp_2m_sde_gpu", "scheduler": "karras", "denoise": 1.0}}}


def graph(changes=(), extra=(), drop=()):
    """The graph with other inputs (node, input, value), other nodes, without some."""
    g = json.loads(json.dumps(GRAPH))
    for node, key, value in changes:
        if key == "class_type":
            g[node][key] = value
        else:
            g[node]["inputs"][key] = value
    g.update(extra)
    for node in drop:
        del g[node]
    return json.dumps(g)


ADVANCED = [("11", "class_type", "KSamplerAdvanced"), ("11", "noise_seed", 7), ("11", "add_noise", "enable"), ("11", "start_at_step", 0)]
INVOKEAI = {"generation_mode": "txt2img", "positive_prompt": "a (boat)1.2", "negative_prompt": "rain", "width": 48, "height": 32, "seed": 9,
            "rand_device": "cuda", "cfg_scale": 3.5, "steps": 2, "scheduler": "euler_k", "clip_skip": 1, "model": {"name": "dream"},
            "loras": [{"weight": 1}]}
SDCPP = {"schema": "sdcpp.image.params/v1", "mode": "img_gen", "seed": 9, "width": 48, "height": 32,
         "prompt": {"positive": "a boat", "negative": "rain"}, "rng": "cuda", "sampler_rng": "cpu", "clip_skip": -1,
         "sampling": {"steps": 2, "method": "dpm++2m", "scheduler": "karras", "guidance": {"txt_cfg": 3}},
         "hires": {"enabled": True, "scale": 1.5, "steps": 0, "denoising_strength": 0.5, "upscaler": "Latent"},
         "models": {"model": "dream.safetensors"}, "loras": [{"name": "a"}]}
for name, text, why, faults in [
    ("comfyui", graph(), "every kind of node", {"m": 10}),
    ("comfyui_plain", graph([("11", "sampler_name", "dpmpp_sde"), ("3", "sampling", "eps"), ("3", "zsnr", False)]), "a path on the processor", {}),
    ("comfyui_er", graph([("11", "sampler_name", "er_sde"), ("3", "sampling", "lcm")]), "a sampler of that name without one", {}),
    ("comfyui_advanced", graph(ADVANCED + [("11", "end_at_step", 10000)]), "the other sampler", {}),
    ("comfyui_part", graph(ADVANCED + [("11", "end_at_step", 1)]), "a part of the steps", {}),
    ("comfyui_later", graph(ADVANCED + [("11", "start_at_step", 1)]), "another part", {}),
    ("comfyui_disabled", graph(ADVANCED + [("11", "add_noise", "disable")]), "no noise of its own", {}),
    ("comfyui_denoise", graph([("11", "denoise", 0.5)]), "less than all of the noise", {}),
    ("comfyui_two", graph(extra={"12": GRAPH["11"]}), "two samplers", {}),
    ("comfyui_custom", graph(extra={"12": {"class_type": "SamplerCustom"}, "13": {"class_type": "KSamplerSelect"}}), "one of another kind", {}),
    ("comfyui_none", graph(drop=["11"]), "no sampler", {}),
    ("comfyui_only_custom", graph([("11", "class_type", "SamplerCustomAdvanced")]), "only another kind", {}),
    ("comfyui_circle", graph([("1", "class_type", "Reroute"), ("1", "ckpt_name", None), ("7", "text", ["8", 0]), ("8", "value", ["8", 0])]),
     "links in a circle", {}),
    ("comfyui_models", json.dumps({**GRAPH, "1": {"class_type": "Reroute", "inputs": {"model": ["1", 0], "clip": ["1", 0]}}}),
     "a model behind a circle", {}),
    ("comfyui_unet", json.dumps({**GRAPH, "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "unet.safetensors"}}}), "a UNet's file", {}),
    ("comfyui_text", graph([("7", "class_type", "ConditioningCombine")]), "a text of another node", {}),
    ("comfyui_negative", graph([("9", "text", 5)]), "a text that is none", {}),
    ("comfyui_latent", graph([("10", "class_type", "VAEEncode")]), "a picture to begin with", {}),
    ("comfyui_width", graph([("10", "width", ["99", 0])]), "a width that nobody gives", {}),
    ("comfyui_steps", graph([("11", "steps", {})]), "steps that are no number", {}),
    ("comfyui_seed", graph([("11", "seed", None)]), "no seed", {}),
    ("comfyui_numbers", '{"1": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615}}}', "too large a number", {}),
    ("comfyui_layers", graph([("6", "stop_at_clip_layer", -1000)]), "a layer that is not there", {}),
    ("comfyui_layer_0", graph([("6", "stop_at_clip_layer", 0)]), "another", {}),
    ("invokeai", json.dumps(INVOKEAI), "what InvokeAI says", {"m": 10}),
    ("invokeai_img2img", json.dumps({**INVOKEAI, "generation_mode": "img2img", "strength": 0.5, "clip_skip": 0, "loras": [],
                                     "positive_prompt": "a boat", "model": {"model_name": "dream"}, "rand_device": "cpu"}), "a picture to begin with", {}),
    ("invokeai_inpaint", json.dumps({**INVOKEAI, "generation_mode": "sdxl_inpaint", "scheduler": "ddim"}), "a mask", {}),
    ("invokeai_outpaint", json.dumps({**INVOKEAI, "generation_mode": "outpaint", "scheduler": "_k", "cfg_scale": "3"}), "a larger picture", {}),
    ("sdcpp", json.dumps(SDCPP), "what stable-diffusion.cpp says", {"m": 10}),
    ("sdcpp_behind", "a boat, SDCPP: {\nSteps: 2, Seed: 1, RNG: cuda, Version: stable-diffusion.cpp, SDCPP: " + json.dumps({**SDCPP, "clip_skip": 2, "hires": {}}),
     "behind A1111's words", {}),
    ("sdcpp_video", json.dumps({**SDCPP, "mode": "vid_gen"}), "a video", {}),
    ("sdcpp_modeless", json.dumps({k: v for k, v in SDCPP.items() if k != "mode"}), "no mode", {}),
    ("json_cut", graph()[:-5], "no JSON", {}),
    ("json_list", '{"a": [], "class_type": 1}', "nodes that are none", {}),
    ("sdcpp_list", "a, SDCPP: [1]", "a list", {}),
]:
    seed("infotext", name, text.encode(), why, **faults)

# ---------------------------------------------------------------- prompts

for name, text, why, faults in [
    ("everything", r" a (red:1.3) ((boat)) [old] \(sic\) BREAK on [the sea:a lake:0.5], [in|turns], [late:2] [gone::3]",
     "all of the syntax", {"m": 60}),
    ("no_norm", "a (red:1.3) boat", "the second way of weights", {"m": 20}),
    ("comfy", "b (red:1.3) boat", "the third", {"m": 20}),
    ("none", "c (red:1.3) boat", "none", {"m": 20}),
    ("long", " " + "a red boat, " * 60, "several rows of tokens", {"m": 60}),
    ("one_word", " " + "boat" * 300, "a row without a comma to go back to", {"m": 20}),
    ("breaks", " a BREAK b BREAK BREAK c", "short rows", {}),
    ("nested", " [a:[b|c]:0.25] [[d]:e:0.5] [f:g:7] [h|i|] [|] [:j:0.9]", "edits in edits", {}),
    ("weights", " (a:0) (b:-2) (c:1e9) (d:nan) (e:) (f:1.2.3) (g: 1.5 ) (:2)", "numbers that are none", {}),
    ("open", " ((a [b (c", "what is never closed", {}),
    ("closed", " a) b] c:2)", "what was never opened", {}),
    ("deep_round", " " + "(" * 600 + "a", "deeper than is read", {}),
    ("deep_square", " " + "[" * 600 + "a", "the same", {}),
    ("signs", " (a:+1.5) (b: 2 (c:3", "a sign, and numbers that nothing closes", {}),
    ("words", " BREAKS _BREAK BREAK_ BREAK\u00e9", "BREAK in words", {}),
    ("break_weighed", " (a BREAK b:1.2)", "BREAK in brackets", {}),
    ("edit_escaped", " [a\\:b:c:0.5 ]", "an escape in an edit", {}),
    ("escapes", " \\( \\) \\[ \\] \\\\ \\a \\", "escapes", {}),
    ("steps", " [a:b:0] [c:d:-1] [e:f:1] [g:h:2.5] [i:j:x] [k::0.5] [l:0.5] [m:n:o:0.5]", "times", {}),
]:
    seed("prompt", name, text.encode(), why, **faults)
