"""Writes tests/golden/malformed/: small broken files that must be refused with a text and never with a signal.

python tests/tools/make_malformed.py        from the repository's root

Each case says what it breaks. The folder a file is in says how the test opens it:
  safetensors/  ckpt/  fails to open    used/   opens, and fails when its tensor 'a' is read
  index/        a sharded model         pipeline/  folders with a model_index.json
  image/        fails to decode         quantised/  weights as codes that cannot be read
  checkpoint/   a checkpoint in one file
  upscaler/     a network that enlarges pictures      lora/  to be merged into a model
  unet/ vae/ text_encoder/ scheduler/ tokenizer/  a file of a model that is good otherwise
  prompt/       a command's argument    lines/     the lines that tokenize reads
  train_config/ train_folder/           a training configuration, a folder of pictures and captions
  jobs/ wildcards/ journal/             jobs of a batch, folders of wildcards, the journal of a batch
cases.tsv lists for each case the command that meets it, the exit code and what the message must say.
A name that begins with "noinput-" is to fail with ERR_NOINPUT, all others with ERR_DATA.
Needs numpy and Pillow (for the pictures that are then broken).
"""
import io
import json
import pathlib
import shutil
import struct
import zlib

import numpy as np
from PIL import Image

import mkcheckpoint

OUT = pathlib.Path("tests/golden/malformed")
shutil.rmtree(OUT, ignore_errors=True)
made = set()
cases = {}


def case(path, why, says="", code=None):
    """What the command line must answer: this exit code (None: the usual one), and a message with `says` in it."""
    usual = 66 if path.split("/")[-1].startswith("noinput-") else 2 if path.startswith("prompt/") else 65
    cases[path] = (why, says, usual if code is None else code)


def put(path, data, why, says="", code=None, good=False):
    """`good`: a file that is not itself a case."""
    assert why and path not in made, path
    made.add(path)
    if not good:
        case(path, why, says, code)
    (OUT / path).parent.mkdir(parents=True, exist_ok=True)
    (OUT / path).write_bytes(data)


# ---------------------------------------------------------------- safetensors

def st(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(begin, end, shape, dtype="F32", **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


D4, D8, D16 = bytes(4), bytes(8), bytes(16)
GOOD = tensor(0, 4, [1])
RAW = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'

for name, data, why in [
    ("empty", b"", "no byte at all"),
    ("seven_bytes", bytes(7), "shorter than the length field"),
    ("zero_length", bytes(8), "a header of 0 bytes"),
    ("zero_length_data", bytes(16), "a header of 0 bytes, then data"),
    ("length_past_end", st({"a": GOOD}, D4, 9999), "length beyond the file"),
    ("length_off_by_one", st(RAW, b"", len(RAW) + 1), "length one byte beyond the file"),
    ("length_100mb", st({"a": GOOD}, D4, 100_000_001), "length over the limit"),
    ("length_2_63", st({"a": GOOD}, D4, 1 << 63), "length with the sign bit"),
    ("length_max", st({"a": GOOD}, D4, (1 << 64) - 1), "8 + length wraps around"),
    ("length_max_minus_7", st({"a": GOOD}, D4, (1 << 64) - 8), "8 + length is 0"),
    ("length_short", st({"a": GOOD}, D4, 20), "length ends inside the JSON"),
    ("no_brace", st(b" " + RAW, D4), "the first byte is not {"),
    ("bom", st(b"\xef\xbb\xbf" + RAW, D4), "a byte order mark"),
    ("array", st(b"[]"), "a list instead of an object"),
    ("array_in_brace", st(b"{[]}"), "not JSON"),
    ("number", st(b"12345678"), "a number"),
    ("truncated_json", st(RAW[:-1], D4), "the last brace is missing"),
    ("trailing_json", st(RAW + b"{}", D4), "a second object behind the first"),
    ("trailing_nul", st(RAW + b"\0\0", D4), "NUL as padding"),
    ("trailing_comma", st(RAW[:-1] + b",}", D4), "a comma too many"),
    ("single_quotes", st(RAW.replace(b'"', b"'"), D4), "Python's quotes"),
    ("comment", st(b"{/*x*/" + RAW[1:], D4), "a comment"),
    ("nan", st(RAW.replace(b"[1]", b"[NaN]"), D4), "NaN"),
    ("bad_utf8", st(RAW.replace(b'"a"', b'"\xff"'), D4), "a byte that is not UTF-8"),
    ("overlong_utf8", st(RAW.replace(b'"a"', b'"\xc0\xaf"'), D4), "an overlong form"),
    ("surrogate_utf8", st(RAW.replace(b'"a"', b'"\xed\xa0\x80"'), D4), "a surrogate in UTF-8"),
    ("lone_surrogate", st(RAW.replace(b'"a"', b'"\\ud800"'), D4), "half of a pair"),
    ("nul_in_name", st(RAW.replace(b'"a"', b'"a\\u0000b"'), D4), "a NUL in a name"),
    ("control_in_name", st(RAW.replace(b'"a"', b'"a\nb"'), D4), "a raw line feed in a string"),
    ("deep_arrays", st(b'{"a":' + b"[" * 5000, b""), "5000 open brackets"),
    ("deep_objects", st(b'{"a":' * 3000 + b"1" + b"}" * 3000, b""), "3000 nested objects"),
    ("deep_100", st(b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", b""), "nested deeper than any header"),
    ("duplicate", st(RAW[:-1] + b"," + RAW[1:], D4), "one name twice"),
    ("duplicate_escaped", st(RAW[:-1] + b"," + RAW[1:].replace(b'"a"', b'"\\u0061"'), D4),
     "one name twice in two spellings"),
    ("duplicate_dtype", st(RAW.replace(b'"shape"', b'"dtype":"F16","shape"'), D4), "one key twice"),
    ("duplicate_metadata", st(b'{"__metadata__":{},"__metadata__":{},' + RAW[1:], D4), "two __metadata__"),
    ("metadata_list", st({"__metadata__": [], "a": GOOD}, D4), "__metadata__ is a list"),
    ("metadata_null", st({"__metadata__": None, "a": GOOD}, D4), "__metadata__ is null"),
    ("metadata_number", st({"__metadata__": {"k": 1}, "a": GOOD}, D4), "a value that is no string"),
    ("metadata_nested", st({"__metadata__": {"k": {"x": "y"}}, "a": GOOD}, D4), "a value that is an object"),
    ("info_list", st({"a": ["F32", [1], [0, 4]]}, D4), "a tensor described by a list"),
    ("info_string", st({"a": "F32"}, D4), "a tensor described by a string"),
    ("info_null", st({"a": None}, D4), "a tensor described by null"),
    ("info_empty", st({"a": {}}, D4), "a tensor without a description"),
    ("unknown_key", st({"a": tensor(0, 4, [1], extra=1)}, D4), "a key the format does not have"),
    ("no_dtype", st({"a": {"shape": [1], "data_offsets": [0, 4]}}, D4), "no dtype"),
    ("no_shape", st({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, D4), "no shape"),
    ("no_offsets", st({"a": {"dtype": "F32", "shape": [1]}}, D4), "no data_offsets"),
    ("dtype_number", st({"a": tensor(0, 4, [1], 7)}, D4), "a dtype that is a number"),
    ("dtype_null", st({"a": tensor(0, 4, [1], None)}, D4), "a dtype that is null"),
    ("shape_object", st({"a": tensor(0, 4, {})}, D4), "a shape that is an object"),
    ("shape_number", st({"a": tensor(0, 4, 1)}, D4), "a shape that is a number"),
    ("shape_string", st({"a": tensor(0, 4, ["1"])}, D4), "a size in quotes"),
    ("shape_real", st({"a": tensor(0, 4, [1.0])}, D4), "a size with a fraction"),
    ("shape_exponent", st(RAW.replace(b"[1]", b"[1e0]"), D4), "a size with an exponent"),
    ("shape_negative", st({"a": tensor(0, 4, [-1])}, D4), "a negative size"),
    ("shape_two_negatives", st({"a": tensor(0, 4, [-1, -1])}, D4), "negative sizes whose product fits"),
    ("shape_leading_zero", st(RAW.replace(b"[1]", b"[01]"), D4), "an octal-looking size"),
    ("shape_plus", st(RAW.replace(b"[1]", b"[+1]"), D4), "a plus sign"),
    ("shape_9_dims", st({"a": tensor(0, 4, [1] * 9)}, D4), "nine dimensions"),
    ("shape_bool", st({"a": tensor(0, 4, [True])}, D4), "a truth value as size"),
    ("shape_null", st({"a": tensor(0, 4, [None])}, D4), "null as size"),
    ("shape_nested", st({"a": tensor(0, 4, [[1]])}, D4), "a list as size"),
    ("product_wraps_to_0", st({"a": tensor(0, 0, [1 << 32, 1 << 32])}), "2^64 elements, 0 when it wraps"),
    ("product_wraps_to_1", st({"a": tensor(0, 4, [(1 << 62) + 1, 4, 1])}, D4), "elements that wrap to 4"),
    ("bytes_wrap", st({"a": tensor(0, 0, [1 << 62])}), "4 * 2^62 bytes, 0 when it wraps"),
    ("bytes_wrap_f64", st({"a": tensor(0, 0, [1 << 61], "F64")}), "8 * 2^61 bytes, 0 when it wraps"),
    ("wrap_before_zero", st({"a": tensor(0, 0, [1 << 40, 1 << 40, 0])}), "overflow although the product is 0"),
    ("size_2_63", st(RAW.replace(b"[1]", b"[9223372036854775808]"), D4), "a size over int64"),
    ("size_2_64", st(RAW.replace(b"[1]", b"[18446744073709551617]"), D4), "a size over uint64"),
    ("size_huge", st(RAW.replace(b"[1]", b"[" + b"9" * 400 + b"]"), D4), "a number of 400 digits"),
    ("too_few_bytes", st({"a": tensor(0, 4, [2])}, D4), "the shape needs more bytes"),
    ("too_many_bytes", st({"a": tensor(0, 8, [1])}, D8), "the shape needs fewer bytes"),
    ("wrong_dtype_size", st({"a": tensor(0, 4, [1], "F16")}, D4), "the type needs fewer bytes"),
    ("scalar_of_no_bytes", st({"a": tensor(0, 0, [])}), "a scalar without its value"),
    ("offsets_reversed", st({"a": tensor(4, 0, [1])}, D4), "end before begin"),
    ("offsets_negative", st({"a": tensor(-4, 0, [1])}, D4), "a negative begin"),
    ("offsets_one", st({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, D4), "one offset"),
    ("offsets_three", st({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, D4), "three offsets"),
    ("offsets_object", st({"a": {"dtype": "F32", "shape": [1], "data_offsets": {"0": 0}}}, D4), "an object"),
    ("offsets_real", st({"a": tensor(0.0, 4.0, [1])}, D4), "offsets with a fraction"),
    ("offsets_string", st({"a": tensor("0", "4", [1])}, D4), "offsets in quotes"),
    ("offset_past_end", st({"a": tensor(0, 8, [2])}, D4), "end beyond the file"),
    ("offset_int64_max", st({"a": tensor(0, (1 << 63) - 1, [1])}, D4), "end at 2^63 - 1"),
    ("offset_over_int64", st(RAW.replace(b"[0,4]", b"[0,18446744073709551615]"), D4), "end at 2^64 - 1"),
    ("begin_near_max", st({"a": tensor((1 << 63) - 5, (1 << 63) - 1, [1])}, D4), "begin + base wraps"),
    ("hole_first", st({"a": tensor(4, 8, [1])}, D8), "bytes before the first tensor"),
    ("hole_middle", st({"a": GOOD, "b": tensor(8, 12, [1])}, bytes(12)), "bytes between two tensors"),
    ("hole_last", st({"a": GOOD}, D8), "bytes behind the last tensor"),
    ("only_data", st({}, D4), "bytes and no tensor"),
    ("overlap", st({"a": tensor(0, 8, [2]), "b": tensor(4, 12, [2])}, bytes(12)), "two tensors overlap"),
    ("alias", st({"a": GOOD, "b": GOOD}, D4), "two tensors share their bytes"),
    ("inside", st({"a": tensor(0, 16, [4]), "b": tensor(4, 8, [1])}, D16), "one tensor inside another"),
    ("empty_inside", st({"a": tensor(0, 16, [4]), "b": tensor(8, 8, [0])}, D16), "an empty tensor inside another"),
    ("data_cut", st({"a": tensor(0, 16, [4])}, D8), "half of the data is missing"),
    ("data_missing", st({"a": tensor(0, 16, [4])}), "no data"),
    ("html", b"<!DOCTYPE html><html><head><title>404</title></head></html>\n" * 3, "a web page saved as a model"),
    ("lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 42\n",
     "a Git LFS pointer"),
    ("pickle", b"PK\x03\x04" + bytes(200), "a zip file, as torch.save writes"),
    ("gguf", b"GGUF\x03\0\0\0" + bytes(64), "another model format"),
    ("big_endian", struct.pack(">Q", len(RAW)) + RAW + D4, "length in the wrong byte order"),
    ("random", bytes(np.random.default_rng(1).integers(0, 256, 512, dtype=np.uint8)), "noise"),
]:
    put(f"safetensors/{name}.safetensors", data, why)

put("used/unknown_dtype.safetensors", st({"a": tensor(0, 4, [1], "F7")}, D4), "a type we do not know")
put("used/sub_byte.safetensors", st({"a": tensor(0, 4, [8], "F4")}, D4), "a type of half a byte")
put("used/dtype_case.safetensors", st({"a": tensor(0, 4, [1], "f32")}, D4), "the wrong case")
put("used/dtype_empty.safetensors", st({"a": tensor(0, 4, [1], "")}, D4), "no type")

# ---------------------------------------------------------------- sharded models

put("index/good-1.safetensors", st({"a": GOOD}, D4), "a shard that the indices below use", good=True)
for name, data, why in [
    ("noinput-missing_shard", {"weight_map": {"a": "none.safetensors"}}, "a shard that is not there"),
    ("missing_tensor", {"weight_map": {"b": "good-1.safetensors"}}, "a tensor that its shard lacks"),
    ("absolute", {"weight_map": {"a": "/etc/passwd"}}, "an absolute shard name"),
    ("parent", {"weight_map": {"a": "../safetensors/empty.safetensors"}}, "a shard in the folder above"),
    ("subfolder", {"weight_map": {"a": "x/good-1.safetensors"}}, "a shard in a folder"),
    ("dot", {"weight_map": {"a": "."}}, "the folder itself"),
    ("dotdot", {"weight_map": {"a": ".."}}, "the folder above"),
    ("empty_name", {"weight_map": {"a": ""}}, "a shard without a name"),
    ("nul_name", b'{"weight_map":{"a":"good-1.safetensors\\u0000"}}', "a NUL in a shard's name"),
    ("map_list", {"weight_map": []}, "weight_map is a list"),
    ("map_number", {"weight_map": {"a": 1}}, "a shard that is a number"),
    ("map_null", {"weight_map": {"a": None}}, "a shard that is null"),
    ("no_map", {"metadata": {"total_size": 4}}, "no weight_map"),
    ("not_json", b"weight_map", "not JSON"),
    ("empty", b"", "no byte at all"),
    ("list", b"[1]", "a list"),
    ("duplicate", b'{"weight_map":{"a":"good-1.safetensors","a":"good-1.safetensors"}}', "one tensor twice"),
    ("cut", b'{"weight_map":{"a":"good-1.saf', "the end is missing"),
    ("deep", b'{"weight_map":' * 200, "nested without end"),
    ("noinput-long_name", {"weight_map": {"a": "x" * 300}}, "a name longer than names can be"),
    ("itself", {"weight_map": {"a": "itself.safetensors.index.json"}}, "the index as its own shard"),
]:
    put(f"index/{name}.safetensors.index.json", data if isinstance(data, bytes) else json.dumps(data).encode(), why)
# In the folder of a network the index has another name, and the shard's name is what the message must say.
case("index/itself.safetensors.index.json", "the index under a name that is not its own", "itself.safetensors", 66)
case("index/noinput-missing_shard.safetensors.index.json", "a shard that is not there", "none.safetensors", 66)
case("index/noinput-long_name.safetensors.index.json", "a name longer than names can be", "xxxx: cannot open", 66)

# ---------------------------------------------------------------- model_index.json

for name, data, why in [
    ("not_json", b"{", "not JSON"),
    ("no_class", b"{}", "no _class_name"),
    ("class_number", b'{"_class_name": 1}', "a class that is a number"),
    ("three", b'{"_class_name": "P", "unet": ["a", "b", "c"]}', "three parts"),
    ("one", b'{"_class_name": "P", "unet": ["a"]}', "one part"),
    ("number", b'{"_class_name": "P", "unet": ["a", 1]}', "a class that is a number"),
    ("half_null", b'{"_class_name": "P", "unet": [null, "UNet"]}', "no library"),
    ("climb", b'{"_class_name": "P", "../x": ["a", "b"]}', "a component outside the folder"),
    ("absolute", b'{"_class_name": "P", "/etc": ["a", "b"]}', "a component outside the folder"),
    ("duplicate", b'{"_class_name": "P", "_class_name": "Q"}', "one key twice"),
]:
    put(f"pipeline/{name}/model_index.json", data, why)

# ---------------------------------------------------------------- pictures

small = Image.fromarray(np.random.default_rng(2).integers(0, 256, (9, 11, 3), dtype=np.uint8))


def coded(kind, im=small, **options):
    b = io.BytesIO()
    im.save(b, kind, **options)
    return b.getvalue()


def chunk(kind, data, crc=None):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)


def png(w=2, h=2, depth=8, colour=2, method=0, filters=0, lace=0, body=None, before=b"", end=True):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, method, filters, lace))
    body = chunk(b"IDAT", zlib.compress(bytes(14))) if body is None else body
    return b"\x89PNG\r\n\x1a\n" + head + before + body + (chunk(b"IEND", b"") if end else b"")


PNG, JPG, WEBP, BMP, TGA = (coded(k) for k in ("PNG", "JPEG", "WEBP", "BMP", "TGA"))
LOSSLESS = coded("WEBP", lossless=True)
RLE = coded("TGA", compression="tga_rle")


def patch(data, at, new):
    return data[:at] + new + data[at + len(new):]


sof = JPG.index(b"\xff\xc0")
dht = JPG.index(b"\xff\xc4")
dqt = JPG.index(b"\xff\xdb")
sos = JPG.index(b"\xff\xda")
progressive = coded("JPEG", progressive=True)
scan = progressive[progressive.index(b"\xff\xda"):]
scan = scan[: scan.index(b"\xff", 2 + 10 + 2)] if b"\xff" in scan[14:] else scan
frames = io.BytesIO()
small.save(frames, "WEBP", save_all=True, append_images=[small.rotate(90, expand=False)])

for name, data, why in [
    ("empty", b"", "no byte at all"),
    ("text.png", b"not a picture", "text"),
    ("html.png", b"<html></html>", "a web page"),
    ("gif.png", b"GIF89a" + bytes(20), "a format we do not read"),
    ("signature.png", PNG[:8], "the signature alone"),
    ("cut_ihdr.png", PNG[:20], "cut inside IHDR"),
    ("cut_idat.png", PNG[:-40], "cut inside the pixels"),
    ("no_iend.png", png(end=False), "no end"),
    ("no_idat.png", png(body=b""), "no pixels"),
    ("short_idat.png", png(body=chunk(b"IDAT", zlib.compress(bytes(7)))), "pixels of one row of two"),
    ("bad_zlib.png", png(body=chunk(b"IDAT", b"\xff" * 20)), "pixels that are no zlib stream"),
    ("empty_idat.png", png(body=chunk(b"IDAT", b"")), "an empty IDAT"),
    ("crc_ihdr.png", patch(PNG, 29, b"\0\0\0\0"), "IHDR's checksum"),
    ("crc_idat.png", png(body=chunk(b"IDAT", zlib.compress(bytes(14)), 1)), "the pixels' checksum"),
    ("zero_width.png", png(w=0), "no column"),
    ("zero_height.png", png(h=0), "no row"),
    ("wide.png", png(w=20000, h=1), "wider than the limit"),
    ("high.png", png(w=1, h=20000), "higher than the limit"),
    ("bomb.png", png(w=0x7fffffff, h=0x7fffffff), "2^62 pixels"),
    ("area.png", png(w=16385, h=16385), "more pixels than the limit"),
    ("sign.png", png(w=0x80000000), "width with the sign bit"),
    ("depth_3.png", png(depth=3), "3 bits"),
    ("depth_64.png", png(depth=64), "64 bits"),
    ("colour_5.png", png(colour=5), "a colour type that does not exist"),
    ("method_1.png", png(method=1), "an unknown compression"),
    ("filter_1.png", png(filters=1), "an unknown filter method"),
    ("filter_9.png", png(body=chunk(b"IDAT", zlib.compress(b"\x09" + bytes(13)))), "an unknown row filter"),
    ("lace_2.png", png(lace=2), "an unknown interlacing"),
    ("no_palette.png", png(colour=3, body=chunk(b"IDAT", zlib.compress(bytes(6)))), "a palette picture without one"),
    ("palette_size.png", png(colour=3, before=chunk(b"PLTE", bytes(7))), "a palette of 7/3 colours"),
    ("critical.png", png(before=chunk(b"ABCD", b"x")), "an unknown critical chunk"),
    ("ihdr_twice.png", png(before=chunk(b"IHDR", bytes(13))), "a second IHDR"),
    ("chunk_length.png", png(before=b"\xff\xff\xff\xfftEXt"), "a chunk of 4 GB"),
    ("chunk_2gb.png", png(before=struct.pack(">I", 2000000000) + b"iTXtizip\0\1\0\0\0"), "a text of 2 GB"),
    ("idat_first.png", PNG[:8] + PNG[33:], "no IHDR"),
    ("cut_header.jpg", JPG[:30], "cut inside the header"),
    ("cut_scan.jpg", JPG[:-60], "cut inside the pixels"),
    ("no_scan.jpg", JPG[:sos] + b"\xff\xd9", "no pixels"),
    ("start_only.jpg", b"\xff\xd8\xff\xd9", "start and end"),
    ("start_ff.jpg", b"\xff\xd8" + b"\xff" * 50, "fill bytes without end"),
    ("zero_width.jpg", patch(JPG, sof + 7, b"\0\0"), "no column"),
    ("zero_height.jpg", patch(JPG, sof + 5, b"\0\0"), "no row"),
    ("bomb.jpg", patch(JPG, sof + 5, b"\xff\xdc\xff\xdc"), "65500 x 65500 pixels"),
    ("more_rows.jpg", patch(JPG, sof + 5, b"\x20\0"), "rows that are not there"),
    ("components_0.jpg", patch(JPG, sof + 9, b"\0"), "no component"),
    ("components_9.jpg", patch(JPG, sof + 9, b"\x09"), "nine components"),
    ("sampling_0.jpg", patch(JPG, sof + 11, b"\0"), "a sampling factor of 0"),
    ("sampling_15.jpg", patch(JPG, sof + 11, b"\xff"), "a sampling factor of 15"),
    ("precision.jpg", patch(JPG, sof + 4, b"\x10"), "16 bits"),
    ("no_huffman.jpg", patch(JPG, sos + 6, b"\x33"), "a Huffman table that is not there"),
    ("no_quantiser.jpg", JPG[:dqt] + JPG[sof:], "no quantisation table"),
    ("huffman_counts.jpg", patch(JPG, dht + 5, b"\xff" * 16), "a Huffman table of 4080 codes"),
    ("marker_length.jpg", patch(JPG, dqt + 2, b"\0\0"), "a table of length 0"),
    ("arithmetic.jpg", patch(JPG, sof + 1, b"\xcb"), "a lossless arithmetic frame"),
    ("cmyk.jpg", coded("JPEG", small.convert("CMYK")), "four colours"),
    ("scans.jpg", progressive[:-2] + scan * 150 + b"\xff\xd9", "the first scan again 150 times"),
    ("riff_only.webp", WEBP[:12], "the container's header alone"),
    ("cut.webp", WEBP[:-30], "cut inside the pixels"),
    ("cut_lossless.webp", LOSSLESS[:-30], "cut inside the pixels"),
    ("cut_chunk.webp", WEBP[:18], "cut inside a chunk's header"),
    ("riff_size.webp", patch(WEBP, 4, b"\x01\0\0\0"), "a container of one byte"),
    ("chunk_size.webp", patch(WEBP, 16, b"\xff\xff\xff\x7f"), "a chunk of 2 GB"),
    ("chunk_size_wraps.webp", patch(WEBP, 16, b"\xff\xff\xff\xff"), "a chunk of 4 GB"),
    ("signature.webp", patch(WEBP, 23, b"\0\0\0"), "not VP8's start code"),
    ("zero_size.webp", patch(WEBP, 26, b"\0\0\0\0"), "0 x 0 pixels"),
    ("partition.webp", patch(WEBP, 20, b"\xf0\xff\xff"), "a first partition beyond the file"),
    ("lossless_signature.webp", patch(LOSSLESS, 20, b"\x00"), "not VP8L's signature"),
    ("lossless_version.webp", patch(LOSSLESS, 24, b"\xff"), "an unknown version"),
    ("animated.webp", frames.getvalue(), "two pictures"),
    ("unknown_chunk.webp", patch(WEBP, 12, b"ABCD"), "no picture"),
    ("cut_header.bmp", BMP[:30], "cut inside the header"),
    ("cut.bmp", BMP[:-20], "cut inside the pixels"),
    ("magic.bmp", b"BM", "the signature alone"),
    ("bomb.bmp", patch(BMP, 18, b"\xff\xff\xff\x7f\xff\xff\xff\x7f"), "2^62 pixels"),
    ("wide.bmp", patch(BMP, 18, struct.pack("<i", 20000)), "wider than the limit"),
    ("zero.bmp", patch(BMP, 18, bytes(8)), "no pixel"),
    ("negative_width.bmp", patch(BMP, 18, struct.pack("<i", -11)), "a negative width"),
    ("int_min_height.bmp", patch(BMP, 22, struct.pack("<i", -2**31)), "a height without a positive twin"),
    ("bits_13.bmp", patch(BMP, 28, b"\x0d"), "13 bits"),
    ("bits_0.bmp", patch(BMP, 28, b"\0"), "0 bits"),
    ("planes.bmp", patch(BMP, 26, b"\x07"), "seven planes"),
    ("rle.bmp", patch(BMP, 30, b"\x01"), "a compression we do not read"),
    ("offset.bmp", patch(BMP, 10, b"\xff\xff\xff\x7f"), "pixels beyond the file"),
    ("offset_negative.bmp", patch(BMP, 10, b"\xff\xff\xff\xff"), "pixels before the file"),
    ("offset_in_header.bmp", patch(BMP, 10, b"\x01\0\0\0"), "pixels inside the header"),
    ("header_size.bmp", patch(BMP, 14, b"\xff\xff\xff\xff"), "an unknown header"),
    ("cut.tga", TGA[:100], "cut inside the pixels"),
    ("cut_header.tga", TGA[:12], "cut inside the header"),
    ("cut_rle.tga", RLE[:60], "cut inside a run"),
    ("zero.tga", patch(TGA, 12, bytes(4)), "no pixel"),
    ("wide.tga", patch(TGA, 12, b"\x20\x4e"), "wider than the limit"),
    ("huge.tga", patch(TGA, 12, b"\xff\xff\xff\xff"), "4 G pixels"),
    ("slow.tga", patch(RLE, 12, b"\xff\x3f\xff\x3f"), "a size that only a much longer file can fill"),
    ("bits.tga", patch(TGA, 16, b"\x07"), "7 bits"),
    ("kind.tga", patch(TGA, 2, b"\x63"), "an unknown kind"),
    ("palette_missing.tga", patch(TGA, 1, b"\x01\x01\0\0\xff\xff\x18"), "a palette beyond the file"),
]:
    put(f"image/{name}", data, why)

# ---------------------------------------------------------------- checkpoints in one file
# (names and shapes of a model of one level; a type of which nothing is known has values of no bytes)

def shapes_of(build):
    table = mkcheckpoint.Table()
    build(table)
    return {row[0]: list(row[1]) for row in table.rows}


UNET, VAE, CLIP = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
SMALL_UNET = shapes_of(lambda t: mkcheckpoint.unet(
    t.sub(UNET), mkcheckpoint.UNetShape(32, (1,), 1, (1,), 1, 64, False), 0.95))
SMALL_VAE = shapes_of(lambda t: mkcheckpoint.vae(t.sub(VAE), 32, 32, (1,), 1))
SMALL_CLIP = shapes_of(lambda t: mkcheckpoint.clip_hf(t.sub(CLIP), 64, 1, 600, 12, False))
SMALL_OPEN = shapes_of(lambda t: mkcheckpoint.clip_open(t.sub("cond_stage_model."), 64, 2, 600, 12))


def checkpoint(*parts, dtype="Q9", **changed):
    """`changed`: with _ for . and a shape, or None for a tensor that is left out."""
    shapes = {n: s for part in parts for n, s in part.items()}
    for name, shape in changed.items():
        (old,) = [n for n in shapes if n.replace(".", "_").endswith(name)] or [name]
        if shape is None:
            del shapes[old]
        else:
            shapes[old] = shape
    return st({n: tensor(0, 0, s, dtype) for n, s in shapes.items()})


def some(shapes, *marks):
    return {n: s for n, s in shapes.items() if any(m in n for m in marks)}


# What configurations are told from, without the rest.
HINTS = {**some(SMALL_UNET, "input_blocks.0.0", "input_blocks.1.0.in_layers", "input_blocks.1.1.transformer_blocks.0.norm1",
                "attn2.to_k"),
         **some(SMALL_VAE, "encoder.down.0.block.0.conv1", "coder.conv_in.weight", "decoder.conv_out.weight")}
IN, OUT_3, READER = "input_blocks_0_0_weight", "output_blocks_0_0_out_layers_3_weight", "input_blocks_1_1_transformer_blocks_0_attn2_to_k_weight"
for name, data, why, says in [
    ("empty.safetensors", st({}), "no tensor", "holds no tensor"),
    ("lora.safetensors", st({"lora_unet_x.lora_down.weight": GOOD}, D4), "a LoRA", "a LoRA"),
    ("vae.safetensors", checkpoint(some(SMALL_VAE, "conv_in")), "an autoencoder alone", "no checkpoint"),
    ("text.safetensors", checkpoint(some(SMALL_CLIP, "embeddings")), "a text encoder alone", "no checkpoint"),
    ("no_text.safetensors", checkpoint({UNET + "input_blocks.0.0.weight": [32, 4, 3, 3]}), "a UNet that reads no text",
     "reads no text"),
    ("no_conv_in.safetensors", checkpoint(HINTS, **{IN: None}), "no first convolution", UNET + "input_blocks.0.0.weight"),
    ("no_blocks.safetensors", checkpoint(some(HINTS, "input_blocks.0", "attn2", VAE)), "no block", "down_blocks.0"),
    ("flat_conv_in.safetensors", checkpoint(HINTS, **{IN: [32]}), "a first convolution of one dimension", "in_channels"),
    ("no_channels.safetensors", checkpoint(HINTS, **{IN: [32, 0, 3, 3]}), "a UNet that reads nothing", "in_channels"),
    ("many_channels.safetensors", checkpoint(HINTS, **{IN: [32, 1 << 40, 3, 3]}), "a UNet that reads 2^40 channels",
     "in_channels"),
    ("odd_width.safetensors", checkpoint(HINTS, input_blocks_1_0_in_layers_2_weight=[33, 32, 3, 3]), "33 channels",
     "block_out_channels"),
    ("huge_width.safetensors", checkpoint(HINTS, input_blocks_1_0_in_layers_2_weight=[1 << 50, 32, 3, 3]),
     "2^50 channels", "block_out_channels"),
    ("flat_reader.safetensors", checkpoint(HINTS, **{READER: [64]}), "a reader of one dimension", "attn2.to_k"),
    ("huge_text.safetensors", checkpoint(HINTS, **{READER: [32, 1 << 50]}), "text of 2^50 features", ""),
    ("upscaler.safetensors", checkpoint(HINTS, **{UNET + "label_emb.weight": [1000, 1280]}), "another task", "upscaler"),
    ("edm.safetensors", checkpoint(HINTS, **{"edm_vpred.sigma_max": []}), "another kind of schedule", "EDM"),
    ("unclip.safetensors", checkpoint(HINTS, some(SMALL_OPEN, "ln_final"), **{UNET + "label_emb.0.0.weight": [128, 2048]}),
     "another task", "unCLIP"),
    ("added.safetensors", checkpoint(HINTS, **{UNET + "label_emb.0.0.weight": [128, 1 << 40]}), "2^40 added features",
     "projection_class_embeddings_input_dim"),
    ("alphas_type.safetensors", checkpoint(HINTS, alphas_cumprod=[1000]), "a schedule of an unknown type",
     "alphas_cumprod"),
    ("noinput-no_vae.safetensors", checkpoint(some(SMALL_UNET, UNET)), "no autoencoder", "--vae"),
    ("vae_encoder.safetensors", checkpoint(some(HINTS, UNET), some(SMALL_VAE, "decoder")), "no encoder",
     VAE + "encoder.down.0.block.0.conv1.weight"),
    ("vae_odd.safetensors", checkpoint(HINTS, encoder_down_0_block_0_conv1_weight=[7, 32, 3, 3]),
     "an autoencoder of 7 channels", "block_out_channels"),
    ("vae_latents.safetensors", checkpoint(HINTS, decoder_conv_in_weight=[32, 5, 3, 3]), "latents of 5 channels",
     "latents of 5"),
    ("unet_most_missing.safetensors", checkpoint(HINTS), "most of the UNet is missing", " more"),
    ("clip_no_tokens.safetensors", checkpoint(HINTS, some(SMALL_CLIP, "layer_norm1")), "no table of tokens",
     "token_embedding.weight"),
    ("clip_one_token.safetensors", checkpoint(HINTS, SMALL_CLIP, text_model_embeddings_token_embedding_weight=[1, 64]),
     "a vocabulary of one token", "token_embedding.weight"),
    ("clip_no_layer.safetensors", checkpoint(HINTS, some(SMALL_CLIP, "embeddings")), "no layer",
     "text_model.encoder.layers.0"),
    ("clip_positions.safetensors", checkpoint(HINTS, SMALL_CLIP, position_embedding_weight=[1 << 40, 64]),
     "2^40 positions", "max_position_embeddings"),
    ("clip_bias.safetensors", checkpoint(HINTS, SMALL_CLIP, mlp_fc1_bias=None), "a bias of the text encoder is missing",
     CLIP + "text_model.encoder.layers.0.mlp.fc1.bias 256 is missing"),
    ("open_one_layer.safetensors", checkpoint(HINTS, some(SMALL_OPEN, "embedding", "resblocks.0.")),
     "the one layer is the one that SD 2 leaves out", "transformer.resblocks.0.ln_1.weight"),
    ("open_fused.safetensors", checkpoint(HINTS, SMALL_OPEN, resblocks_0_attn_in_proj_weight=[190, 64]),
     "rows that are no three matrices", "resblocks.0.attn.in_proj_weight is 190x64, expected 64x64"),
    ("open_fused_scalar.safetensors", checkpoint(HINTS, SMALL_OPEN, resblocks_0_attn_in_proj_bias=[]),
     "a scalar that should be three biases", "resblocks.0.attn.in_proj_bias"),
    ("unet_shape.safetensors", checkpoint(SMALL_UNET, HINTS, **{OUT_3: [32, 32, 1, 3]}), "a wrong kernel",
     UNET + "output_blocks.0.0.out_layers.3.weight is 32x32x1x3, expected 32x32x3x3"),
    ("unet_missing.safetensors", checkpoint(SMALL_UNET, HINTS, **{OUT_3: None}), "a convolution is missing",
     UNET + "output_blocks.0.0.out_layers.3.weight 32x32x3x3 is missing"),
    ("unet_rank.safetensors", checkpoint(SMALL_UNET, HINTS, diffusion_model_out_0_bias=[1, 32]), "a bias of two dimensions",
     UNET + "out.0.bias is 1x32, expected 32"),
    ("vae_missing.safetensors", checkpoint(SMALL_UNET, SMALL_VAE, decoder_mid_attn_1_q_weight=None),
     "a part of the autoencoder is missing", VAE + "decoder.mid.attn_1.q.weight 32x32 is missing"),
    ("vae_seven_dimensions.safetensors", checkpoint(SMALL_UNET, SMALL_VAE, decoder_norm_out_weight=[1] * 7),
     "more dimensions than a tensor may have", VAE + "decoder.norm_out.weight 32 is missing"),
]:
    put(f"checkpoint/{name}", data, why, says)

# ---------------------------------------------------------------- configurations of networks and schedulers
# (each is a good one of tests/golden/pipeline/sd with one thing changed)

GOLDEN = pathlib.Path("tests/golden")
SD = GOLDEN / "pipeline/sd"
WITHOUT = object()


def edited(base, **changes):
    return json.dumps({k: v for k, v in {**base, **changes}.items() if v is not WITHOUT}).encode()


NETWORKS = {n: json.loads((SD / f"{n}.json").read_text())["config"] for n in ("unet", "vae", "text_encoder")}
for net, base in NETWORKS.items():
    text = json.dumps(base).encode()
    for name, data, why, says in [
        ("empty", b"", "no byte at all", ":1:0"),
        ("cut", text[: len(text) // 2], "the second half is missing", "config.json:1:"),
        ("list", b"[" + text + b"]", "a list around it", "not a JSON object"),
        ("duplicate", text[:-1] + b', "model_type": 1, "model_type": 1}', "one key twice", "duplicate"),
        ("deep", b'{"x":' + b"[" * 100 + b"]" * 100 + b"}", "nested without end", "nested deeper"),
        ("utf8", text.replace(b"{", b'{"\xff": 1, ', 1), "a key that is not UTF-8", "0xff"),
        ("unknown", edited(base, flux_capacitor=True), "a field that nobody knows", "flux_capacitor"),
        ("binary", bytes(range(256)), "no text", "config.json:1:"),
        ("number_huge", text[:-1] + b', "sample_size": ' + b"9" * 400 + b"}", "a number of 400 digits", "config.json:1:"),
    ]:
        put(f"{net}/{name}.json", data, why, says)

for net, name, changes, why, says in [
    ("unet", "class", {"_class_name": "FluxTransformer2DModel"}, "another class of network", "_class_name"),
    ("unet", "channels_0", {"in_channels": 0}, "no channel", "in_channels"),
    ("unet", "channels_negative", {"out_channels": -4}, "a negative number", "out_channels"),
    ("unet", "channels_text", {"in_channels": "4"}, "a number in quotes", "in_channels"),
    ("unet", "channels_real", {"in_channels": 4.5}, "a number with a fraction", "in_channels"),
    ("unet", "channels_huge", {"in_channels": 1 << 40}, "a number far beyond use", "in_channels"),
    ("unet", "levels_none", {"block_out_channels": []}, "no level", "block_out_channels"),
    ("unet", "levels_many", {"block_out_channels": [8] * 100}, "a hundred levels", "block_out_channels"),
    ("unet", "levels_text", {"block_out_channels": "8"}, "a string for a list", "block_out_channels"),
    ("unet", "levels_mixed", {"block_out_channels": [8, "8"]}, "a string inside a list", "block_out_channels"),
    ("unet", "groups", {"norm_num_groups": 7}, "groups that do not divide the channels", "norm_num_groups"),
    ("unet", "groups_0", {"norm_num_groups": 0}, "a division by zero", "norm_num_groups"),
    ("unet", "heads", {"attention_head_dim": 7}, "heads that do not divide the channels", "attention_head_dim"),
    ("unet", "heads_0", {"attention_head_dim": 0}, "no head", "attention_head_dim"),
    ("unet", "blocks_short", {"down_block_types": ["DownBlock2D"]}, "fewer blocks than levels", "down_block_types"),
    ("unet", "blocks_unknown", {"up_block_types": ["Up", "Up"]}, "a block that nobody knows", "up_block_types"),
    ("unet", "blocks_numbers", {"up_block_types": [1, 2]}, "numbers for names", "up_block_types"),
    ("unet", "layers_list", {"layers_per_block": [1] * 7}, "more entries than levels", "layers_per_block"),
    ("unet", "activation", {"act_fn": "mish"}, "an activation we do not have", "act_fn"),
    ("unet", "eps", {"norm_eps": -1}, "a negative epsilon", "norm_eps"),
    ("unet", "only_cross", {"only_cross_attention": [True, 1]}, "a number for a truth value", "only_cross_attention"),
    ("unet", "only_cross_long", {"only_cross_attention": [True] * 9}, "more entries than levels", "only_cross_attention"),
    ("unet", "null", {"in_channels": None}, "null for a number", "in_channels"),
    ("unet", "addition_alone", {"addition_embed_type": "text_time"}, "sizes without their numbers", "missing"),
    ("unet", "cross", {"cross_attention_dim": 1234}, "another width than the text's", "1234"),
    ("unet", "weights", {"time_embedding_dim": 64}, "sizes that the weights do not have", "time_embedding"),
    ("vae", "class", {"_class_name": "VQModel"}, "another class of network", "_class_name"),
    ("vae", "latents_0", {"latent_channels": 0}, "no channel", "latent_channels"),
    ("vae", "latents_many", {"latent_channels": 16}, "other channels than the UNet's", "latents of 16"),
    ("vae", "colours", {"out_channels": 4}, "four colours", "4 channels"),
    ("vae", "scaling_0", {"scaling_factor": 0}, "a division by zero", "scaling_factor"),
    ("vae", "scaling_text", {"scaling_factor": "1"}, "a number in quotes", "scaling_factor"),
    ("vae", "groups", {"norm_num_groups": 7}, "groups that do not divide the channels", "norm_num_groups"),
    ("vae", "blocks", {"down_block_types": ["DownBlock2D"]}, "a block of another network", "down_block_types"),
    ("vae", "blocks_long", {"up_block_types": ["UpDecoderBlock2D"] * 5}, "more blocks than levels", "up_block_types"),
    ("vae", "levels_object", {"block_out_channels": {"0": 8}}, "an object for a list", "block_out_channels"),
    ("vae", "truth", {"use_quant_conv": "yes"}, "a string for a truth value", "use_quant_conv"),
    ("vae", "mean", {"latents_mean": [0.1]}, "a normalisation we do not have", "latents_mean"),
    ("text_encoder", "heads", {"num_attention_heads": 5}, "heads that do not divide the width", "hidden_size"),
    ("text_encoder", "heads_0", {"num_attention_heads": 0}, "a division by zero", "num_attention_heads"),
    ("text_encoder", "activation", {"hidden_act": "tanh"}, "an activation we do not have", "hidden_act"),
    ("text_encoder", "layers", {"num_hidden_layers": 1 << 20}, "a million layers", "num_hidden_layers"),
    ("text_encoder", "architecture", {"architectures": ["T5EncoderModel"]}, "another network", "architectures"),
    ("text_encoder", "architecture_number", {"architectures": [5]}, "a number for a name", "architectures"),
    ("text_encoder", "vocabulary", {"vocab_size": 10}, "fewer ids than the weights have", "10x12"),
    ("text_encoder", "positions", {"max_position_embeddings": 4}, "fewer places than the weights have", "4x12"),
    ("text_encoder", "eps_text", {"layer_norm_eps": "small"}, "a string for a number", "layer_norm_eps"),
    ("text_encoder", "end_negative", {"eos_token_id": -5}, "a negative id", "eos_token_id"),
]:
    put(f"{net}/{name}.json", edited(NETWORKS[net], **changes), why, says)

SCHEDULER = json.loads((SD / "scheduler_v.json").read_text())
for name, changes, why, says in [
    ("class", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "a scheduler we do not have", "_class_name"),
    ("class_number", {"_class_name": 1}, "a number for a name", "_class_name"),
    ("steps_0", {"num_train_timesteps": 0}, "no step", "train"),
    ("steps_huge", {"num_train_timesteps": 1 << 33}, "a number over 32 bits", "num_train_timesteps"),
    ("steps_many", {"num_train_timesteps": (1 << 31) - 1}, "two thousand million steps", "train"),
    ("steps_text", {"num_train_timesteps": "1000"}, "a number in quotes", "num_train_timesteps"),
    ("betas_unknown", {"beta_schedule": "sigmoid"}, "a curve we do not have", "beta_schedule"),
    ("betas_negative", {"beta_start": -0.1}, "a negative variance", "beta"),
    ("betas_over_1", {"beta_end": 1.5}, "more noise than there is", "beta"),
    ("betas_trained", {"trained_betas": [0.1]}, "betas of its own", "trained_betas"),
    ("prediction", {"prediction_type": "flow"}, "a prediction we do not have", "prediction_type"),
    ("prediction_list", {"prediction_type": ["epsilon"]}, "a list for a string", "prediction_type"),
    ("spacing", {"timestep_spacing": "random"}, "a spacing we do not have", "timestep_spacing"),
    ("zero_text", {"rescale_betas_zero_snr": "true"}, "a truth value in quotes", "rescale_betas_zero_snr"),
    ("thresholding", {"thresholding": True}, "a change of meaning that we do not have", "thresholding"),
    ("offset", {"steps_offset": 1.5}, "an offset with a fraction", "steps_offset"),
]:
    put(f"scheduler/{name}.json", edited(SCHEDULER, **changes), why, says)
put("scheduler/empty.json", b"", "no byte at all", "scheduler_config.json:1:0")
put("scheduler/cut.json", json.dumps(SCHEDULER).encode()[:40], "the end is missing", "scheduler_config.json:1:")

# ---------------------------------------------------------------- vocabularies
# (the file of this name in the folder of a good tokenizer)

VOCAB = {"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "ab": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}
TOKENIZER = json.loads((SD / "tokenizer_config.json").read_text())
for name, file, data, why, says in [
    ("empty", "vocab.json", b"", "no byte at all", "line 1"),
    ("list", "vocab.json", b"[]", "a list", "not a JSON object"),
    ("cut", "vocab.json", json.dumps(VOCAB).encode()[:30], "the end is missing", "line 1"),
    ("utf8", "vocab.json", b'{"\xff": 0}', "a token that is not UTF-8", "0xff"),
    ("duplicate", "vocab.json", b'{"a": 0, "a": 1}', "one token twice", "duplicate"),
    ("same_id", "vocab.json", json.dumps({**VOCAB, "c": 3}).encode(), "one id twice", "of another token"),
    ("negative", "vocab.json", json.dumps({**VOCAB, "c": -1}).encode(), "a negative id", "'c'"),
    ("huge_id", "vocab.json", json.dumps({**VOCAB, "c": 1 << 40}).encode(), "an id over 32 bits", "'c'"),
    ("real_id", "vocab.json", json.dumps({**VOCAB, "c": 1.5}).encode(), "an id with a fraction", "'c'"),
    ("text_id", "vocab.json", json.dumps({**VOCAB, "c": "7"}).encode(), "an id in quotes", "'c'"),
    ("no_end", "vocab.json", b'{"a": 0}', "no special tokens", "is not in the vocabulary"),
    ("deep", "vocab.json", b'{"a":' * 3000, "nested without end", "line 1"),
    ("other", "vocab.json", json.dumps(VOCAB).encode(), "a vocabulary that the merges do not belong to", "line"),
    ("three", "merges.txt", b"#version: 0.2\na b c\n", "three tokens to merge", "line 2"),
    ("one", "merges.txt", b"ab\n", "one token to merge", "line 1"),
    ("unknown", "merges.txt", b"#version: 0.2\nqqqq zzzz\n", "tokens that are not in the vocabulary", "'qqqq'"),
    ("twice", "merges.txt", b"l o\nl o\n", "one pair twice", "line 2"),
    ("blank", "merges.txt", b"l o\n\n\n", "an empty line", "line 2"),
    ("binary", "merges.txt", bytes(range(128, 256)) * 2, "no text", "line 1"),
    ("spaces", "merges.txt", b"l  o\n", "two spaces between the tokens", "line 1"),
    ("config_cut", "tokenizer_config.json", b'{"bos_token": ', "the end is missing", "line 1"),
    ("config_list", "tokenizer_config.json", b"[]", "a list", "not a JSON object"),
    ("class", "tokenizer_config.json", edited(TOKENIZER, tokenizer_class="T5Tokenizer"), "another tokenizer",
     "T5Tokenizer"),
    ("padding", "tokenizer_config.json", edited(TOKENIZER, padding_side="left"), "the other side", "padding_side"),
    ("length_1", "tokenizer_config.json", edited(TOKENIZER, model_max_length=1), "no room for the ends",
     "model_max_length"),
    ("length_nan", "tokenizer_config.json", b'{"model_max_length": NaN}', "NaN", "line 1"),
    ("bos_unknown", "tokenizer_config.json", edited(TOKENIZER, bos_token="<nobody>"), "a token that nobody knows",
     "<nobody>"),
    ("bos_number", "tokenizer_config.json", edited(TOKENIZER, bos_token=7), "a number for a token", "token"),
    ("bos_empty", "tokenizer_config.json", edited(TOKENIZER, bos_token=""), "an empty token", "bos_token"),
    ("added_id", "tokenizer_config.json", edited(TOKENIZER, added_tokens_decoder={"x": {"content": "a"}}),
     "an id that is no number", "'x'"),
    ("added_huge", "tokenizer_config.json", edited(TOKENIZER, added_tokens_decoder={"99999999999": {"content": "zz"}}),
     "an id over 32 bits", "99999999999"),
    ("added_text", "tokenizer_config.json", edited(TOKENIZER, added_tokens_decoder={"3": {"content": 5}}),
     "a token without text", "has no text"),
    ("single_word", "tokenizer_config.json",
     edited(TOKENIZER, added_tokens_decoder={"9": {"content": "zz", "single_word": True}}), "a flag we do not have",
     "single_word"),
    ("split_special", "tokenizer_config.json", edited(TOKENIZER, split_special_tokens=True), "a mode we do not have",
     "split_special_tokens"),
    ("whole_empty", "tokenizer.json", b"{}", "no model", "no vocabulary"),
    ("whole_model", "tokenizer.json", b'{"model": {"type": "Unigram"}}', "another kind of model", "Unigram"),
    ("whole_merges", "tokenizer.json", json.dumps({"model": {"vocab": VOCAB}}).encode(), "no merges", "merges"),
    ("whole_pair", "tokenizer.json", json.dumps({"model": {"vocab": VOCAB, "merges": [["a"]]}}).encode(),
     "half a pair", "merge 0"),
    ("whole_number", "tokenizer.json", json.dumps({"model": {"vocab": VOCAB, "merges": ["a b", 5]}}).encode(),
     "a number for a pair", "merge 1"),
    ("special_list", "special_tokens_map.json", b"[]", "a list", "special_tokens_map.json"),
    ("added_list", "added_tokens.json", b"[]", "a list", "added_tokens.json"),
]:
    put(f"tokenizer/{name}/{file}", data, why, says)

# ---------------------------------------------------------------- prompts

for name, data, why in [
    ("latin1", b"caf\xe9", "Latin-1"),
    ("cut", b"caf\xc3", "the first half of a character"),
    ("continuation", b"\x80", "the second half of a character"),
    ("overlong", b"\xc0\xaf", "an overlong form"),
    ("surrogate", b"\xed\xa0\x80", "half of a pair"),
    ("beyond", b"\xf4\x90\x80\x80", "a character beyond the last"),
    ("utf16", "\u2603 house".encode("utf-16").replace(b"\0", b""), "another encoding"),
    ("ff", b"a house \xff\xfe", "bytes that UTF-8 does not have"),
]:
    put(f"prompt/{name}.txt", data, why, "prompt is not UTF-8")

for name, data, why, says in [
    ("open_64k", b"(" * 65000, "brackets of 64 KB", "more than 100 open brackets"),
    ("square_64k", b"[" * 65000, "square brackets of 64 KB", "more than 100 open brackets"),
    ("editing_64k", b"[a:" * 21000, "editing without an end", "more than 100 open brackets"),
    ("long", b"a " * 32769, "more than 64 KiB", "longer than 65536 bytes"),
    ("rows", b"a BREAK " * 65, "more rows than there may be", "longer than 64 rows"),
    ("words_64k", b"a house, " * 7000, "64 KB of words", "longer than 64 rows"),
    ("heavy", b"(a house:1e9) ((b:999):999)", "a weight beyond all use", "weight 998001"),
    ("heavy_digits", b"(a house:" + b"9" * 300 + b")", "a weight of 300 digits", "weight 1e+300"),
    ("restless", b"[a|b|c|d|e|f|g] [a|b|c|d|e|f|g|h|i|j|k] [a|b|c]", "more texts than steps may read",
     "more than 128 different texts"),
]:
    put(f"prompt/{name}.txt", data, why, says)

for name, data, why, says in [
    ("bare", b"a house\n", "no JSON", "line 1"),
    ("number", b'"good"\n17\n', "a number", "line 2"),
    ("object", b'{"prompt": "x"}\n', "an object", "line 1"),
    ("cut", b'"a hou\n', "a string without end", "line 1"),
    ("utf8", b'"\xff"\n', "not UTF-8", "line 1"),
    ("two", b'"a" "b"\n', "two strings in a line", "line 1"),
    ("blank", b'"a"\n\n', "an empty line", "line 2"),
    ("escape", b'"\\q"\n', "an escape that JSON does not have", "line 1"),
    ("surrogate", b'"\\ud800"\n', "half of a pair", "line 1"),
    ("control", b'"a\tb"\n', "a raw tab", "line 1"),
]:
    put(f"lines/{name}.txt", data, why, says)

# ---------------------------------------------------------------- training

for name, data, why, says in [
    ("empty", b"", "no byte at all", ":1:0"),
    ("cut", b'{"batch": 4, "si', "the end is missing", ":1:"),
    ("list", b"[]", "a list", "not a JSON object"),
    ("duplicate", b'{"batch": 4, "batch": 5}', "one key twice", "duplicate"),
    ("unknown", b'{"batchs": 4}', "a key that nobody knows", "batchs"),
    ("batch_0", b'{"batch": 0}', "an empty batch", "batch"),
    ("batch_text", b'{"batch": "4"}', "a number in quotes", "batch"),
    ("batch_real", b'{"batch": 4.5}', "a number with a fraction", "batch"),
    ("batch_huge", b'{"batch": 99999999999999999999}', "a number over 64 bits", ":1:"),
    ("size_text", b'{"size": "big"}', "a size that is no number", "size"),
    ("size_one", b'{"size": "64"}', "a width alone", "size"),
    ("size_small", b'{"size": "4x4"}', "a side below the limit", "size"),
    ("size_huge", b'{"size": "64x99999999999999999999"}', "a side over 64 bits", "size"),
    ("size_comma", b'{"size": "64x64,"}', "a comma too many", "size"),
    ("size_many", json.dumps({"size": ",".join(["64x64"] * 33)}).encode(), "more sizes than buckets", "size"),
    ("size_number", b'{"size": 64}', "a number for a text", "size"),
    ("lr_negative", b'{"lr": -1}', "a negative rate", "lr"),
    ("lr_text", b'{"lr": "fast"}', "a word for a number", "lr"),
    ("lr_infinite", b'{"lr": 1e999}', "a number over the largest double", ":1:"),
    ("precision", b'{"precision": "f8"}', "a precision we do not have", "precision"),
    ("precision_part", b'{"precision": "f3"}', "the beginning of a word", "precision"),
    ("save_as", b'{"save_as": "I8"}', "a type we do not write", "save_as"),
    ("truth", b'{"skip_bad": 1}', "a number for a truth value", "skip_bad"),
    ("ema", b'{"ema": 1}', "an average that never moves", "ema"),
    ("prompts", b'{"prompts": "a house"}', "a text for a list", "prompts"),
    ("prompts_numbers", b'{"prompts": [1]}', "a number for a text", "prompts"),
    ("prompts_many", json.dumps({"prompts": ["x"] * 65}).encode(), "more prompts than a grid has", "prompts"),
    ("stages_empty", b'{"stages": []}', "no stage", "stages"),
    ("stages_object", b'{"stages": {}}', "an object for a list", "stages"),
    ("stages_number", b'{"stages": [7]}', "a number for a stage", "stage 1"),
    ("stages_key", b'{"stages": [{}, {"seed": 1}]}', "a key that a stage may not have", "stage 2"),
    ("stages_range", b'{"stages": [{"batch": -1}]}', "a number out of range in a stage", "stage 1"),
    ("stages_many", json.dumps({"stages": [{}] * 33}).encode(), "more stages than there may be", "stages"),
    ("no_data", b'{"out": "out"}', "no pictures", '\\"data\\"'.replace("\\", "")),
    ("no_source", b'{"out": "out", "data": "moon:all"}', "a source that nobody knows", "moon:all"),
    ("data_missing", b'{"out": "out", "data": "nowhere"}', "a folder that is not there", "nowhere"),
]:
    code = 66 if name == "data_missing" else 2 if name == "no_source" else 65
    put(f"train_config/{name}.json", data, why, says, code)

GOOD_PNG = png(8, 8, body=chunk(b"IDAT", zlib.compress(bytes(200))))
put("train.json", b'{"data": "data", "out": "out", "size": "16x16", "samples": 4, "batch": 2, "threads": 1}\n',
    "a good configuration for the folders below", good=True)
for name, files, why, says in [
    ("empty", {"note.txt": b"nothing\n"}, "no picture", "no usable image"),
    ("no_caption", {"1.png": GOOD_PNG}, "a picture without a caption", "1.txt is missing"),
    ("caption_nul", {"1.png": GOOD_PNG, "1.txt": b"a\0b"}, "a NUL in a caption", "NUL"),
    ("caption_long", {"1.png": GOOD_PNG, "1.txt": b"x" * 5000}, "a caption over the limit", "1.txt"),
    ("picture_cut", {"1.png": GOOD_PNG[:60], "1.txt": b"a"}, "half a picture", "1.png"),
    ("picture_text", {"1.jpg": b"not a picture", "1.txt": b"a"}, "a text for a picture", "1.jpg"),
    ("list_json", {"metadata.jsonl": b"file_name,text\n1.png,a\n"}, "CSV for JSON", "metadata.jsonl:1"),
    ("list_cut", {"1.png": GOOD_PNG, "metadata.jsonl": b'{"file_name": "1.png", "text": "a"}\n{"file_na'},
     "a line without end", "metadata.jsonl:2"),
    ("list_array", {"metadata.jsonl": b"[]\n"}, "a list for an object", "metadata.jsonl:1"),
    ("list_no_name", {"metadata.jsonl": b'{"text": "a"}\n'}, "no file_name", "file_name"),
    ("list_name_number", {"metadata.jsonl": b'{"file_name": 1, "text": "a"}\n'}, "a number for a name", "file_name"),
    ("list_no_text", {"1.png": GOOD_PNG, "metadata.jsonl": b'{"file_name": "1.png"}\n'}, "no caption", "no caption"),
    ("list_text_number", {"1.png": GOOD_PNG, "metadata.jsonl": b'{"file_name": "1.png", "text": 1}\n'},
     "a number for a caption", "text"),
    ("list_parent", {"metadata.jsonl": b'{"file_name": "../x.png", "text": "a"}\n'}, "a picture in the folder above",
     "not below the folder"),
    ("list_inner_parent", {"metadata.jsonl": b'{"file_name": "a/../../x.png", "text": "a"}\n'},
     "a picture in the folder above", "not below the folder"),
    ("list_absolute", {"metadata.jsonl": b'{"file_name": "/etc/passwd", "text": "a"}\n'}, "an absolute name",
     "not below the folder"),
    ("list_missing", {"metadata.jsonl": b'{"file_name": "none.png", "text": "a"}\n'}, "a picture that is not there",
     "none.png"),
    ("list_long", {"1.png": GOOD_PNG, "metadata.jsonl": json.dumps(
        {"file_name": "1.png", "text": "x" * 5000}).encode()}, "a caption over the limit", "metadata.jsonl:1"),
    ("list_utf8", {"1.png": GOOD_PNG, "metadata.jsonl": b'{"file_name": "1.png", "text": "\xff"}\n'},
     "a caption that is not UTF-8", "metadata.jsonl:1"),
    ("list_empty", {"metadata.jsonl": b"\n\n"}, "no line", "no usable image"),
    ("list_duplicate", {"metadata.jsonl": b'{"file_name": "1.png", "file_name": "2.png", "text": ""}\n'},
     "one key twice", "metadata.jsonl:1"),
    ("list_dir", {"metadata.jsonl": b'{"file_name": ".", "text": "a"}\n'}, "the folder for a picture", "data/."),
]:
    for file, data in files.items():
        put(f"train_folder/{name}/{file}", data, why, good=True)
    case(f"train_folder/{name}", why, says, 66 if name in ("list_missing", "list_dir") else 65)

# ---------------------------------------------------------------- jobs of a batch

# A line that is wrong is a job that fails (exit code 1); the others are drawn. A file that says nothing is 65.
BOAT = b'{"prompt": "a boat"}\n'


def job(name, data, why, says, code=1):
    put(f"jobs/{name}", data, why, f"{name}: {says}", code)


def keys(**given):
    return json.dumps({"prompt": "a boat", **given}).encode() + b"\n"


job("empty.jsonl", b"", "no byte at all", "no job", 65)
job("blank.jsonl", b"\n  \n\r\n", "no job, only blank lines", "no job", 65)
for name, data, why, says in [
    ("cut", BOAT + b'{"prompt": "a boat", "st', "the end is missing", "line 2: column"),
    ("cut_short", BOAT + b"{", "the end is missing behind the first byte", "line 2: column"),
    ("bare", b"a boat\n", "no JSON", "line 1: column 1"),
    ("list", b'["a boat"]\n', "a list", "line 1: not a JSON object"),
    ("text", BOAT + b'"a boat"\n', "a text in quotes", "line 2: "),
    ("pretty", b'{\n  "prompt": "a boat"\n}\n', "one object on several lines", "line 1: column"),
    ("two", b'{"prompt": "a"} {"prompt": "b"}\n', "two objects on a line", "line 1: column"),
    ("comma", b'{"prompt": "a",}\n', "a comma too many", "line 1: column"),
    ("comment", b"// boats\n", "a comment", "line 1: column 1"),
    ("nul", b'{"prompt": "a\0b"}\n', "a NUL", "line 1: a NUL"),
    ("nul_escape", b'{"prompt": "a\\u0000b"}\n', "an escaped NUL", "line 1: column"),
    ("control", b'{"prompt": "a\x1b[2Jb"}\n', "a raw control character", "line 1: column"),
    ("utf8", BOAT + b'{"prompt": "\xff"}\n', "not UTF-8", "line 2: column"),
    ("utf16", '{"prompt": "a boat"}\n'.encode("utf-16"), "another encoding", "line 1: a NUL"),
    ("surrogate", b'{"prompt": "\\ud800"}\n', "half of a pair", "line 1: column"),
    ("deep", b'{"prompt": ' + b"[" * 5000 + b"\n", "5000 open brackets", "line 1: column"),
    ("nan", b'{"prompt": "a", "cfg_scale": NaN}\n', "NaN", "line 1: column"),
    ("infinite", b'{"prompt": "a", "cfg_scale": 1e999}\n', "a number over the largest double", "line 1: column"),
    ("over_64_bits", b'{"prompt": "a", "seed": 99999999999999999999}\n', "a number over 64 bits", "line 1: column"),
    ("duplicate_key", b'{"prompt": "a", "prompt": "b"}\n', "one key twice", "line 1: column"),
    ("two_spellings", b'{"prompt": "a", "cfg": 1, "cfg_scale": 2}\n', "one option under two names", "line 1: "),
    ("unknown_key", BOAT + keys(stpes=1), "a key that nobody knows", "line 2: unknown key 'stpes'"),
    ("not_a_jobs", keys(model="elsewhere"), "an option that a job may not give", "line 1: unknown key 'model'"),
    ("key_control", keys(**{"\x1b[2J\x9b": 1}), "control characters in a key", "line 1: unknown key '?[2J?"),
    ("no_prompt", b'{"steps": 1}\n', "no prompt", "line 1: no prompt"),
    ("prompt_null", keys(prompt=None), "null for a prompt", "line 1: no prompt"),
    ("prompt_number", keys(prompt=7), "a number for a prompt", "line 1: prompt"),
    ("prompt_long", keys(prompt="x" * 70000), "a prompt over the limit", "line 1: the expanded prompt is longer"),
    ("steps_text", keys(steps="four"), "a word for a number", "line 1: steps"),
    ("steps_real", keys(steps=1.5), "a number with a fraction", "line 1: steps"),
    ("steps_0", keys(steps=0), "no step", "line 1: steps"),
    ("steps_huge", keys(steps=1 << 40), "a number over the limit", "line 1: steps"),
    ("scale_list", keys(cfg_scale=[7]), "a list for a number", "line 1: cfg-scale"),
    ("scale_huge", keys(cfg_scale=1e300), "a number that single precision does not have", "line 1: cfg-scale"),
    ("truth", keys(no_metadata="perhaps"), "a word for a truth value", "line 1: no-metadata"),
    ("size_33", keys(width=33), "a width that the model cannot draw", "line 1: "),
    ("count_huge", keys(batch_count=1 << 30), "more pictures than there may be", "line 1: batch-count"),
    ("sampler", keys(sampler="plmz"), "a sampler we do not have", "line 1: "),
    ("same_id", keys(id="x") + keys(id="x"), "one id twice", "line 2: id 'x' is there already"),
    ("id_list", keys(id=["x"]), "a list for an id", "line 1: id"),
    ("id_empty", keys(id=""), "an empty id", "line 1: id"),
    ("id_long", keys(id="x" * 129), "an id over the limit", "line 1: id"),
    ("id_parent", keys(id="../x"), "an id that leaves the folder", "line 1: the output"),
    ("name_parent", keys(output="../x.png"), "a name that leaves the folder", "line 1: the output"),
    ("name_absolute", keys(output="/tmp/x.png"), "an absolute name", "line 1: the output"),
    ("name_journal", keys(output="manifest.jsonl"), "the journal's own name", "line 1: the output"),
    ("name_control", keys(output="\x1b[2J.png"), "control characters in a name", "line 1: the output"),
    ("name_long", keys(output="x" * 4096 + ".png"), "a name of 4 KB", "line 1: the output's name is too long"),
    ("brace", keys(prompt="a {red|blue boat"), "alternatives that do not end", "line 1: a brace"),
    ("braces", keys(prompt="{" * 60000), "60,000 open braces", "line 1: wildcards nested"),
]:
    job(f"{name}.jsonl", data, why, says)

for name, data, why, says, code in [
    ("empty", b"", "no byte at all", "line 1: ", 65),
    ("header", b"prompt,steps\n", "a header and no job", "no job", 65),
    ("header_quote", b'"prompt,steps\na,1\n', "a quote that does not end in the header", "line 1: ", 65),
    ("header_same", b"prompt,steps,prompt\na,1,b\n", "one column twice", "line 1: column 3", 65),
    ("header_gap", b"prompt,,steps\na,,1\n", "a column without a name", "line 1: column 2", 65),
    ("header_nul", b"pro\0mpt\na\n", "a NUL in a name", "line 1: column 1", 65),
    ("header_wide", b",".join(b"c%d" % i for i in range(65)) + b"\n", "65 columns", "line 1: not a header", 65),
    ("no_header", b"a boat,1\na house,2\n", "prompts without a header", "line 2: unknown key", 1),
    ("returns", b"prompt,steps\ra,1\r", "lines that end as on an old Macintosh", "no job", 65),
    ("few", b"prompt,steps,seed\na,1\n", "a row with a field less", "line 2: 2 fields", 1),
    ("many", b"prompt,steps\na,1\nb, c,1\n", "a comma without quotes", "line 3: 3 fields", 1),
    ("quote", b'prompt,steps\na,1\n"b,1\nc,1\n', "a quote that does not end", "line 3: a quote", 1),
    ("quote_lines", b'prompt,steps\n"a\nb",1\nc,x\n', "a word for a number, behind a field of two lines",
     "line 4: steps", 1),
    ("nul", b"prompt,steps\na\0b,1\n", "a NUL in a field", "line 2: a NUL in 'prompt'", 1),
    ("latin1", b"prompt,steps\ncaf\xe9,1\n", "Latin-1", "line 2: 'prompt' is not UTF-8", 1),
    ("semicolons", b"prompt;steps\na boat;1\n", "another separator", "line 2: unknown key", 1),
]:
    job(f"{name}.csv", data, why, says, code)

for name, data, why, says in [
    ("unknown", b"a boat\na house --stpes 1\n", "a flag that nobody knows", "line 2: "),
    ("twice", b"a boat --steps 1 --steps 2\n", "one flag twice", "line 1: a flag is given twice"),
    ("quote", b'a boat --negative-prompt "dull\n', "a quote that does not end", "line 1: a quote"),
    ("behind", b'--prompt "a boat" and more\n', "text behind a value", "line 1: text behind"),
    ("no_value", b"a boat --steps\n", "a flag without its value", "line 1: steps"),
    ("number", b"a boat --steps 0x10\n", "a number that is none", "line 1: steps"),
    ("range", b"a boat\n# no job\na boat --steps -1\n", "a number out of range", "line 3: steps"),
    ("nul", b"a boat\0\n", "a NUL", "line 1: a NUL"),
    ("utf8", b"a boat\ncaf\xc3\n", "the first half of a character", "line 2: not UTF-8"),
    ("flag_utf8", b"a boat --\xff 1\n--steps 1 --x\xff 2\n", "a flag that is not UTF-8", "line 2: "),
    ("name", b"a boat --outpath ../../x.png\n", "a name that leaves the folder", "line 1: the output"),
    ("picture", GOOD_PNG, "a picture for a list", "line 1: "),
]:
    job(f"{name}.txt", data, why, says)
job("comments.txt", b"# nothing\n#\n", "only comments", "no job", 65)
put("jobs/folder.jsonl/inside.txt", b"a boat\n", "a file in the folder", good=True)
case("jobs/folder.jsonl", "a folder", "folder.jsonl: cannot be read: Is a directory", 66)
case("jobs/noinput-missing.jsonl", "no such file", "noinput-missing.jsonl: cannot be read")

# What __colour__ finds in a folder of wildcards.
put("wild.jsonl", b'{"prompt": "a __colour__ boat", "steps": 1}\n', "a good job for the folders below", good=True)
for name, file, data, why, says in [
    ("missing", "colours.txt", b"red\n", "no file of that name", "line 1: cannot read the wildcard file"),
    ("empty", "colour.txt", b"# nothing\n\n", "no line to choose", "line 1: no line in the wildcard file"),
    ("loop", "colour.txt", b"__colour__\n", "a file that chooses itself", "line 1: wildcards nested"),
    ("brace", "colour.txt", b"{red|blue\n", "alternatives that do not end", "line 1: a brace"),
    ("utf8", "colour.txt", b"\xff\n", "not UTF-8", "line 1: the prompt is not UTF-8"),
    ("folder", "colour.txt/inside.txt", b"red\n", "a folder for a file", "line 1: cannot read the wildcard file"),
]:
    put(f"wildcards/{name}/{file}", data, why, good=True)
    case(f"wildcards/{name}", why, f"wild.jsonl: {says}", 1)

# Journals: what is no line of a job counts for nothing and is told, and the batch is drawn.
put("jobs.jsonl", keys(id="x", steps=1), "a good job for the journals below", good=True)
DONE = b'{"id":"y","status":"done","file":"y.png"}\n'
for name, data, why, line in [
    ("torn", DONE + b'{"id":"x","status":"do\n' + DONE, "a line that a killed writer left, in the middle", 2),
    ("cut", DONE + DONE + b'{"id":"x","sta', "a line that a killed writer left, at the end", 3),
    ("binary", bytes(range(1, 256)) * 2, "no text", 1),
    ("nul", DONE + bytes(300) + b"\n", "what some file systems leave after a crash", 2),
    ("types", b'{"id":7,"status":["done"]}\n', "a number for an id, a list for a status", 1),
    ("list", DONE + b'["x", "done"]\n', "a list for an object", 2),
    ("deep", DONE + b'{"id":' * 3000 + b"\n", "nested without end", 2),
    ("blank", b"\n" + DONE, "an empty line", 1),
]:
    put(f"journal/{name}.jsonl", data, why, f"warning: out/manifest.jsonl: line {line} ", 0)
put("journal/folder/inside.txt", b"", "a file in the folder", good=True)
case("journal/folder", "a folder for the journal", "out/manifest.jsonl: ", 73)

# ---------------------------------------------------------------- what torch.save writes, broken

def zipped(entries, flags=0, tail=b"", count=None):
    """A zip archive of stored entries [(name, data, {field: value})], written field by field so that any can lie."""
    body, directory = b"", b""
    for name, data, *lies in entries:
        f = dict(method=0, flags=flags, crc=zlib.crc32(data), size=len(data), full=len(data), name=name.encode(),
                 local=name.encode(), offset=len(body)) | (lies[0] if lies else {})
        fixed = struct.pack("<HHHHHIII", 20, f["flags"], f["method"], 0, 0, f["crc"], f["size"], f["full"])
        directory += (b"PK\1\2\x14\0" + fixed + struct.pack("<HHHHHII", len(f["name"]), 0, 0, 0, 0, 0, f["offset"])
                      + f["name"])
        body += b"PK\3\4" + fixed + struct.pack("<HH", len(f["local"]), 0) + f["local"] + data
    n = len(entries) if count is None else count
    return body + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, n, n, len(directory), len(body), 0) + tail


def p_text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return b"X" + struct.pack("<I", len(s)) + s


def p_int(n):
    return b"J" + struct.pack("<i", n) if -1 << 31 <= n < 1 << 31 else b"\x8a\x08" + struct.pack("<q", n)


def p_global(module, name):
    return f"c{module}\n{name}\n".encode()


def p_ints(*n):
    return b"(" + b"".join(map(p_int, n)) + b"t"


def stored(key="0", kind="FloatStorage", n=4, module="torch"):
    return b"(" + p_text("storage") + p_global(module, kind) + p_text(key) + p_text("cpu") + p_int(n) + b"tQ"


ORDERED = p_global("collections", "OrderedDict") + b")R"


def rebuilt(storage=stored(), first=p_int(0), shape=p_ints(2, 2), strides=p_ints(2, 1), how="_rebuild_tensor_v2", more=b""):
    return p_global("torch._utils", how) + b"(" + storage + first + shape + strides + b"\x89" + ORDERED + more + b"tR"


def p_dict(*pairs):
    return b"}(" + b"".join(p_text(k) + v for k, v in pairs) + b"u"


def pickled(body):
    return b"\x80\x02" + body + b"."


def ckpt_parts(pickle, storages=(bytes(16),)):
    return [("m/data.pkl", pickle), ("m/version", b"3\n")] + [(f"m/data/{i}", s) for i, s in enumerate(storages)]


def ckpt(body, *storages):
    return zipped(ckpt_parts(pickled(body), storages or (bytes(16),)))


ONE = p_dict(("a", rebuilt()))
assert len(ckpt(ONE)) < 1000
put("ckpt/good.ckpt", ckpt(ONE), "the file that the others break", good=True)

BYTES = rebuilt(stored(kind="UntypedStorage", module="torch.storage", n=16), shape=p_ints(16), strides=p_ints(1),
                how="_rebuild_tensor_v3", more=p_global("torch", "float8_e4m3fn"))
ROW = rebuilt(stored("1", n=2), shape=p_ints(2), strides=p_ints(1))
put("ckpt/good_scaled.ckpt", ckpt(p_dict(("a.weight", BYTES), ("a.scale_weight", rebuilt(shape=p_ints(), strides=p_ints())),
                                         ("b.weight", BYTES), ("b.weight_scale", ROW), ("c", BYTES),
                                         ("t", rebuilt(strides=p_ints(1, 2)))), bytes(16), bytes(8)),
    "8-bit floats with a scale, with two, and without", good=True)


def deep(n):
    return b"".join(b"}" + p_text("a") for _ in range(n)) + rebuilt() + b"s" * n


CYCLE = b"}q\0" + p_text("a") + b"h\0s"
DOUBLING = b"}q\0" + p_text("x") + rebuilt() + b"s" + b"".join(
    b"0}" + p_text("a") + b"h" + bytes([i]) + b"s" + p_text("b") + b"h" + bytes([i]) + b"sq" + bytes([i + 1]) for i in range(14))

for name, data, says in [
    # programs
    ("os_system", ckpt(p_dict(("a", p_global("os", "system") + b"(" + p_text("id") + b"tR"))), "os.system"),
    ("posix_system", ckpt(p_global("posix", "system") + b"(" + p_text("id") + b"tR"), "posix.system"),
    ("eval", ckpt(p_global("builtins", "eval") + b"(" + p_text("1") + b"tR"), "builtins.eval"),
    ("exec_py2", ckpt(p_global("__builtin__", "exec") + b"(" + p_text("1") + b"tR"), "__builtin__.exec"),
    ("getattr", ckpt(p_global("builtins", "getattr") + b"(" + p_text("1") + b"tR"), "builtins.getattr"),
    ("torch_load", ckpt(p_global("torch", "load") + b"(" + p_text("x") + b"tR"), "torch.load"),
    ("runpy", ckpt(p_global("runpy", "_run_code") + b")R"), "runpy._run_code"),
    ("numpy_load", ckpt(p_global("numpy.testing._private.utils", "runstring") + b")R"), "runstring"),
    ("pip_main", ckpt(p_global("pip", "main") + b")R"), "pip.main"),
    ("stack_global", ckpt(p_text("os") + p_text("system") + b"\x93(" + p_text("id") + b"tR"), "os.system"),
    ("stack_global_int", ckpt(p_int(1) + p_text("system") + b"\x93"), "a global without a name"),
    ("global_dotted", ckpt(p_global("torch", "nn.Module.__init__") + b")R"), "torch.nn.Module.__init__"),
    ("global_control", ckpt(p_global("o\x1b[2Js", "sys\7tem") + b")R"), "byte 2 of its pickle"),
    ("global_endless", ckpt(b"cos"), "cut short"),
    ("global_long", ckpt(p_global("o" * 5000, "x" * 5000)), "weights do not need"),
    ("nested_reduce", ckpt(p_dict(("a", p_global("collections", "OrderedDict") + b")R)R"))), "no function"),
    ("reduce_on_result", ckpt(p_dict(("a", rebuilt() + b")R"))), "no function"),
    ("reduce_on_storage", ckpt(p_global("torch", "FloatStorage") + b")R"), "calls torch.FloatStorage"),
    ("reduce_no_tuple", ckpt(p_global("collections", "OrderedDict") + b"]R"), "no function"),
    ("ordered_dict_args", ckpt(p_global("collections", "OrderedDict") + b"(]tR"), "calls collections.OrderedDict with"),
    ("build_on_list", ckpt(b"]}b"), "sets the state"),
    ("build_on_tensor", ckpt(p_dict(("a", rebuilt() + b"}b"))), "sets the state"),
    ("build_on_global", ckpt(p_global("torch", "FloatStorage") + b"}b"), "sets the state"),
    ("inst", ckpt(b"(ios\nsystem\n"), "INST"),
    ("obj", ckpt(b"(" + p_global("collections", "OrderedDict") + b"o"), "OBJ"),
    ("newobj", ckpt(p_global("collections", "OrderedDict") + b")\x81"), "NEWOBJ"),
    ("newobj_ex", ckpt(p_global("collections", "OrderedDict") + b")}\x92"), "NEWOBJ_EX"),
    ("ext1", ckpt(b"\x82\x01"), "EXT1"),
    ("persid", ckpt(b"P0\n"), "PERSID"),
    ("protocol_0", ckpt(b"I1\n"), "INT"),
    ("protocol_9", zipped(ckpt_parts(b"\x80\x09}.")), "newer than 5"),
    ("opcode_ff", ckpt(b"\xff"), "0xff"),
    ("buffer", ckpt(b"\x97"), "NEXT_BUFFER"),
    # the stack machine
    ("empty_pickle", zipped(ckpt_parts(b"")), "cut short"),
    ("no_stop", zipped(ckpt_parts(b"\x80\x02}")), "cut short"),
    ("stop_empty", ckpt(b""), "0 values"),
    ("stop_two", ckpt(b"}}"), "2 values"),
    ("stop_marked", ckpt(b"}("), "values on the stack"),
    ("behind_stop", zipped(ckpt_parts(pickled(ONE) + b"cos\nsystem\n.")), "before its last byte"),
    ("pop_empty", ckpt(b"0"), "empty stack"),
    ("pop_mark_none", ckpt(b"1"), "no mark"),
    ("dup_empty", ckpt(b"2"), "empty stack"),
    ("tuple_no_mark", ckpt(b"t"), "no mark"),
    ("tuple3_of_2", ckpt(b"NN\x87"), "empty stack"),
    ("tuple_over_mark", ckpt(b"N(N\x86"), "empty stack"),
    ("setitems_odd", ckpt(b"}(Nu"), "without its value"),
    ("dict_odd", ckpt(b"(Nd"), "without its value"),
    ("setitem_on_list", ckpt(b"]NNs"), "adds items"),
    ("append_on_dict", ckpt(b"}Na"), "adds items"),
    ("appends_no_list", ckpt(b"(Ne"), "empty stack"),
    ("additems_on_dict", ckpt(b"}(N\x90"), "adds items"),
    ("setitems_no_mark", ckpt(b"}u"), "no mark"),
    ("reduce_empty", ckpt(b"R"), "empty stack"),
    ("persistent_empty", ckpt(b"Q"), "empty stack"),
    ("memo_unset", ckpt(b"h\x05"), "memo 5 is empty"),
    ("memo_unset_long", ckpt(b"j\xff\xff\xff\x7f"), "memo 2147483647 is empty"),
    ("memo_huge", ckpt(b"}r\xff\xff\xff\xff"), "memo 4294967295"),
    ("memo_of_nothing", ckpt(b"q\0"), "empty stack"),
    ("text_huge", ckpt(b"X\xff\xff\xff\xff"), "cut short"),
    ("text8_huge", ckpt(b"\x8d" + b"\xff" * 8), "cut short"),
    ("bytes8_huge", ckpt(b"\x8e" + b"\xff" * 7 + b"\x7f"), "cut short"),
    ("long4_negative", ckpt(b"\x8b\xff\xff\xff\xff"), "cut short"),
    ("int_cut", zipped(ckpt_parts(b"\x80\x02J\0")), "cut short"),
    ("deep_dicts", ckpt(deep(3000)), "without end"),
    ("deep_17", ckpt(deep(18)), "without end"),
    ("deep_marks", ckpt(b"(" * 20000), "values on the stack"),
    ("deep_tuples", ckpt(b")" + b"\x85" * 20000), "no tensor"),
    ("cycle", ckpt(CYCLE), "without end"),
    ("doubling", ckpt(DOUBLING), "without end"),
    ("list_in_itself", ckpt(b"]q\0h\0a"), "no tensor"),
    # tensors
    ("no_tensors", ckpt(b"}"), "holds no tensor"),
    ("a_number", ckpt(p_int(7)), "holds no tensor"),
    ("a_tensor", ckpt(rebuilt()), "holds no tensor"),
    ("only_state_dict", ckpt(p_dict(("state_dict", b"}"), ("a", rebuilt()))), "holds no tensor"),
    ("twice", ckpt(p_dict(("a", rebuilt()), ("a", rebuilt()))), "two tensors 'a'"),
    ("twice_nested", ckpt(p_dict(("a.b", rebuilt()), ("a", p_dict(("b", rebuilt()))))), "two tensors 'a.b'"),
    ("name_utf8", ckpt(p_dict((b"\xff", rebuilt()))), "not UTF-8"),
    ("name_endless", ckpt(p_dict(("n" * 2000, rebuilt()))), "without end"),
    ("name_endless_nested", ckpt(p_dict(("n" * 600, p_dict(("m" * 600, rebuilt()))))), "without end"),
    ("storage_missing", ckpt(p_dict(("a", rebuilt(stored("7"))))), "that the archive does not have"),
    ("storage_above", ckpt(p_dict(("a", rebuilt(stored("../data.pkl"))))), "that the archive does not have"),
    ("storage_named", ckpt(p_dict(("a", rebuilt(stored("x" * 500))))), "that the archive does not have"),
    ("storage_too_long", ckpt(p_dict(("a", rebuilt(stored(n=5))))), "another size"),
    ("storage_too_short", ckpt(p_dict(("a", rebuilt(stored(n=3))))), "another size"),
    ("storage_negative", ckpt(p_dict(("a", rebuilt(stored(n=-4))))), "another size"),
    ("storage_wraps", ckpt(p_dict(("a", rebuilt(stored(n=(1 << 62) + 4))))), "another size"),
    ("storage_of_dict", ckpt(p_dict(("a", rebuilt(b"}Q")))), "names no storage"),
    ("storage_tuple", ckpt(p_dict(("a", rebuilt(b"(" + p_text("storage") + b"tQ")))), "names no storage"),
    ("storage_kind", ckpt(p_dict(("a", rebuilt(stored(kind="OrderedDict", module="collections"))))), "names no storage"),
    ("storage_complex", ckpt(p_dict(("a", rebuilt(stored(kind="ComplexFloatStorage"))))), "torch.ComplexFloatStorage"),
    ("storage_untyped", ckpt(p_dict(("a", rebuilt(stored(kind="UntypedStorage", module="torch.storage", n=16))))), "no type"),
    ("storage_key_number", ckpt(p_dict(("a", rebuilt(stored().replace(p_text("0") + p_text("cpu"), p_int(0) + p_text("cpu")))))),
     "names no storage"),
    ("storage_no_count", ckpt(p_dict(("a", rebuilt(stored().replace(p_int(4) + b"tQ", b"NtQ"))))), "names no storage"),
    ("storage_type_text", ckpt(p_dict(("a", rebuilt(stored().replace(p_global("torch", "FloatStorage"), p_text("f")))))),
     "names no storage"),
    ("not_stored", ckpt(p_dict(("a", rebuilt(b"}")))), "names no storage"),
    ("first_negative", ckpt(p_dict(("a", rebuilt(first=p_int(-1))))), "leaves its storage"),
    ("first_beyond", ckpt(p_dict(("a", rebuilt(first=p_int(4))))), "leaves its storage"),
    ("first_huge", ckpt(p_dict(("a", rebuilt(first=p_int(1 << 62))))), "leaves its storage"),
    ("first_text", ckpt(p_dict(("a", rebuilt(first=p_text("0"))))), "not described"),
    ("shape_negative", ckpt(p_dict(("a", rebuilt(shape=p_ints(-2, 2))))), "negative size"),
    ("shape_two_negatives", ckpt(p_dict(("a", rebuilt(shape=p_ints(-2, -2))))), "negative size"),
    ("shape_beyond", ckpt(p_dict(("a", rebuilt(shape=p_ints(2, 3), strides=p_ints(3, 1))))), "leaves its storage"),
    ("shape_wraps", ckpt(p_dict(("a", rebuilt(shape=p_ints(1 << 62, 4))))), "more elements"),
    ("shape_wraps_to_4", ckpt(p_dict(("a", rebuilt(shape=p_ints((1 << 62) + 1, 4), strides=p_ints(0, 0))))), "more elements"),
    ("shape_huge", ckpt(p_dict(("a", rebuilt(shape=p_ints(1 << 40, 1))))), "leaves its storage"),
    ("shape_9_dims", ckpt(p_dict(("a", rebuilt(shape=p_ints(*[1] * 9), strides=p_ints(*[1] * 9))))), "more than 8"),
    ("shape_list", ckpt(p_dict(("a", rebuilt(shape=b"]")))), "not described"),
    ("shape_text", ckpt(p_dict(("a", rebuilt(shape=b"(" + p_text("2") + b"t")))), "not described"),
    ("shape_2_80", ckpt(p_dict(("a", rebuilt(shape=b"(\x8a\x0b" + bytes(10) + b"\x01K\x01t")))), "not described"),
    ("strides_few", ckpt(p_dict(("a", rebuilt(strides=p_ints(1))))), "not described"),
    ("strides_negative", ckpt(p_dict(("a", rebuilt(strides=p_ints(-2, 1))))), "leaves its storage"),
    ("strides_wrap", ckpt(p_dict(("a", rebuilt(strides=p_ints(1 << 62, 1 << 62))))), "leaves its storage"),
    ("strides_times_size_wrap", ckpt(p_dict(("a", rebuilt(shape=p_ints(5, 2), strides=p_ints(1 << 62, 1))))), "leaves its"),
    ("strides_sum_wraps", ckpt(p_dict(("a", rebuilt(shape=p_ints(4, 4), strides=p_ints(1 << 62, 1 << 62))))), "leaves its"),
    ("strides_product_wraps", ckpt(p_dict(("a", rebuilt(shape=p_ints(2, 2), strides=p_ints(1 << 63 >> 1, 3))))), "leaves its"),
    ("strides_expand", ckpt(p_dict(("a", rebuilt(shape=p_ints(4, 1 << 20), strides=p_ints(1, 0))))), "repeats its elements"),
    ("few_arguments", ckpt(p_dict(("a", p_global("torch._utils", "_rebuild_tensor_v2") + b")R"))), "not described"),
    ("v3_without_type", ckpt(p_dict(("a", rebuilt(how="_rebuild_tensor_v3")))), "not described"),
    ("v3_with_a_number", ckpt(p_dict(("a", rebuilt(how="_rebuild_tensor_v3", more=b"N")))), "not described"),
    ("v3_of_a_storage", ckpt(p_dict(("a", rebuilt(how="_rebuild_tensor_v3", more=p_global("torch", "FloatStorage"))))),
     "not described"),
    ("state_dict_list", ckpt(p_dict(("state_dick", b"N"), ("state_dict", b"]"), ("state", b"N"))[:-1] + p_int(1) + b"Nu"),
     "holds no tensor"),
    ("v3_of_floats", ckpt(p_dict(("a", rebuilt(how="_rebuild_tensor_v3", more=p_global("torch", "uint16"))))), "no type"),
    ("parameter_of_none", ckpt(p_dict(("a", p_global("torch._utils", "_rebuild_parameter") + b"(Nt" + b"R"))), "no tensor"),
    ("parameter_of_parameter", ckpt(p_dict(("a", p_global("torch._utils", "_rebuild_parameter") + b"(" +
                                           p_global("torch._utils", "_rebuild_parameter") + b"(" + rebuilt() + b"tRtR"))),
     "no tensor"),
    ("parameter_empty", ckpt(p_dict(("a", p_global("torch._utils", "_rebuild_parameter") + b")R"))), "no tensor"),
    # the archive
    ("no_pickle", zipped([("m/version", b"3\n")]), "without a data.pkl"),
    ("no_folder", zipped([("data.pkl", pickled(ONE))]), "not one that torch.save wrote"),
    ("no_entry", zipped([]), "zip archive"),
    ("two_pickles", zipped(ckpt_parts(pickled(ONE)) + [("m/data.pkl", pickled(b"}"))]), ".ckpt: "),
    ("two_pickles_folders", zipped(ckpt_parts(pickled(ONE)) + [("n/data.pkl", pickled(b"}"))]), "'n/data.pkl'"),
    ("two_storages", zipped(ckpt_parts(pickled(ONE)) + [("m/data/0", bytes(16))]), ".ckpt: "),
    ("deep_pickle", zipped(ckpt_parts(pickled(ONE)) + [("m/x/data.pkl", pickled(b"}"))]), "'m/x/data.pkl'"),
    ("code", zipped(ckpt_parts(pickled(ONE)) + [("m/code/model.py", b"import os")]), "'m/code/model.py'"),
    ("constants", zipped(ckpt_parts(pickled(ONE)) + [("m/constants.pkl", pickled(b"}"))]), "'m/constants.pkl'"),
    ("parent", zipped(ckpt_parts(pickled(ONE)) + [("m/../data/0", bytes(16))]), "'m/../data/0'"),
    ("absolute", zipped(ckpt_parts(pickled(ONE)) + [("/etc/passwd", b"x")]), "'/etc/passwd'"),
    ("storage_letters", zipped(ckpt_parts(pickled(ONE)) + [("m/data/0x", b"x")]), "'m/data/0x'"),
    ("storage_empty_name", zipped(ckpt_parts(pickled(ONE)) + [("m/data/", b"")]), "'m/data/'"),
    ("deflated", zipped([("m/data.pkl", pickled(ONE)), ("m/data/0", zlib.compress(bytes(99))[2:-4],
                                                        dict(method=8, full=99, crc=zlib.crc32(bytes(99))))]), "compressed"),
    ("deflated_pickle", zipped([("m/data.pkl", zlib.compress(pickled(ONE))[2:-4],
                                 dict(method=8, full=len(pickled(ONE)), crc=zlib.crc32(pickled(ONE))))]), "compressed"),
    ("encrypted", zipped(ckpt_parts(pickled(ONE)), flags=1), "compressed or encrypted"),
    ("pickle_crc", zipped([("m/data.pkl", pickled(ONE), dict(crc=7)), ("m/data/0", bytes(16))]), "CRC"),
    ("pickle_crc_0", zipped([("m/data.pkl", pickled(ONE), dict(crc=0)), ("m/data/0", bytes(16))]), "CRC"),
    ("sizes_differ", zipped([("m/data.pkl", pickled(ONE)), ("m/data/0", bytes(16), dict(full=99))]), "compressed"),
    ("size_beyond", zipped([("m/data.pkl", pickled(ONE)), ("m/data/0", bytes(16), dict(size=1 << 30, full=1 << 30))]),
     "zip archive"),
    ("offset_beyond", zipped([("m/data.pkl", pickled(ONE)), ("m/data/0", bytes(16), dict(offset=1 << 30))]), "zip archive"),
    ("offset_shared", zipped([("m/data.pkl", pickled(ONE)), ("m/data/0", bytes(16), dict(offset=0))]), "zip archive"),
    ("names_differ", zipped([("m/data.pkl", pickled(ONE), dict(local=b"m/evil.pkl")), ("m/data/0", bytes(16))]),
     "zip archive"),
    ("count_huge", zipped(ckpt_parts(pickled(ONE)), count=65534), "zip archive"),
    ("count_small", zipped(ckpt_parts(pickled(ONE)), count=1), "zip archive"),
    ("zip64_count", b"PK\3\4" + bytes(26) + b"PK\6\6" + struct.pack(
        "<QHHIIQQQQ", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 46 << 40, 30) + b"PK\6\7" + struct.pack("<IQI", 0, 30, 1)
     + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 0xffffffff, 0xffffffff, 0), "zip archive"),
    ("cut_half", ckpt(ONE)[:len(ckpt(ONE)) // 2], "zip archive"),
    ("cut_directory", ckpt(ONE)[:-30], "zip archive"),
    ("cut_4", b"PK\3\4", "zip archive"),
    ("only_zeros", b"PK\3\4" + bytes(500), "zip archive"),
    ("behind_end", ckpt(ONE) + b"PK\5\6" + bytes(10), "zip archive"),
    ("big_endian", zipped(ckpt_parts(pickled(ONE)) + [("m/byteorder", b"big")]), "byteorder"),
    ("byteorder_crc", zipped(ckpt_parts(pickled(ONE)) + [("m/byteorder", b"little", dict(crc=1))]), "CRC"),
    ("odd_byteorder", zipped(ckpt_parts(pickled(ONE)) + [("m/byteorder", b"middle")]), "byteorder"),
    # other formats under the name
    ("seven_zip", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(40), "7z archive"),
    ("rar", b"Rar!\x1a\x07\x01\0" + bytes(20), "rar archive"),
    ("gzip", b"\x1f\x8b\x08" + bytes(20), "gzip"),
    ("zstd", b"\x28\xb5\x2f\xfd" + bytes(20), "zstd"),
    ("xz", b"\xfd7zXZ\0" + bytes(20), "xz"),
    ("tar", b"m/" + bytes(255) + b"ustar\x0000" + bytes(300), "tar archive"),
    ("gguf", b"GGUF\3\0\0\0" + bytes(20), "GGUF"),
    ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
    ("numpy", b"\x93NUMPY\1\0" + bytes(20), "numpy"),
    ("html", b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    ("html_bare", b"<html><body>Please log in</body></html>", "web page"),
    ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265380512\n", "Git LFS"),
    ("bare_pickle", pickled(p_global("os", "system") + b"(" + p_text("id") + b"tR"), "a bare pickle"),
    ("before_1_6", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "the format before 1.6"),
    ("empty", b"", ".ckpt: "),
    ("text", b"not weights at all", ".ckpt: "),
]:
    put(f"ckpt/{name}.ckpt", data, name.replace("_", " "), says)

# ---------------------------------------------------------------- upscalers

# As few channels as there can be; nothing is run of them.
def upscaler(features=2, growth=1, blocks=1, doublings=2, inputs=3):
    t = {}

    def conv(name, out, of):
        t[name + ".weight"], t[name + ".bias"] = [out, of, 3, 3], [out]

    conv("conv_first", features, inputs)
    for i in range(blocks):
        for j in 1, 2, 3:
            for k in range(5):
                conv(f"body.{i}.rdb{j}.conv{k + 1}", features if k == 4 else growth, features + k * growth)
    for name in ["conv_body"] + [f"conv_up{k + 1}" for k in range(doublings)] + ["conv_hr"]:
        conv(name, features, features)
    conv("conv_last", 3, features)
    return t


def shaped(shapes, keep=None):
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = tensor(at, at + size, shape)
        at += size
    data = st(header, bytes(at))
    return data if keep is None else data[:keep]


def changed(**how):
    shapes = upscaler()
    for name, shape in how.items():
        name = name.replace("__", ".")
        if shape is None:
            del shapes[name]
        else:
            shapes[name] = shape
    return shaped(shapes)


DENSE = "another architecture?"
for name, data, why, says in [
    ("no_first", changed(conv_first__weight=None), "no first convolution", "conv_first.weight 2x3x3x3 is missing"),
    ("no_last", changed(conv_last__weight=None, conv_last__bias=None), "no last convolution", "conv_last.bias 3 is missing"),
    ("no_hr", changed(conv_hr__bias=None), "a bias is missing", "conv_hr.bias 2 is missing"),
    ("last_1", changed(conv_last__weight=[1, 2, 3, 3], conv_last__bias=[1]), "a grey result", "expected 3x2x3x3"),
    ("first_5", changed(conv_first__weight=[2, 5, 3, 3]), "five input channels", "5 input channels"),
    ("first_12_x1", shaped(upscaler(doublings=0, inputs=12)), "squares of pixels and no doubling", "12 input channels"),
    ("first_1d", changed(conv_first__weight=[54]), "a first convolution that is a list", "conv_first.weight is 54"),
    ("mark_1d", changed(body__0__rdb1__conv1__weight=[18]), "a dense convolution that is a list", "0 features"),
    ("mark_empty", changed(body__0__rdb1__conv1__weight=[0, 2, 3, 3]), "no growth channels", "0 growth channels"),
    ("mark_no_features", changed(body__0__rdb1__conv1__weight=[1, 0, 3, 3]), "no features", "0 features"),
    ("mark_wide", changed(body__0__rdb1__conv1__weight=[1, 2000, 3, 3]), "2000 features", "2000 features"),
    ("kernel_1", changed(body__0__rdb2__conv3__weight=[1, 4, 1, 1]), "a kernel of 1x1", "is 1x4x1x1, expected 1x4x3x3"),
    ("kernel_5", changed(conv_body__weight=[2, 2, 5, 5]), "a kernel of 5x5", "is 2x2x5x5"),
    ("growth_differs", changed(body__0__rdb3__conv2__weight=[2, 3, 3, 3]), "one layer grows more", "expected 1x3x3x3"),
    ("doublings_4", shaped(upscaler(doublings=4)), "16 times as large", "4 doublings"),
    ("up_missing", changed(conv_up1__weight=None, conv_up1__bias=None), "the second doubling without the first", DENSE),
    ("block_far", shaped({**upscaler(), "body.999999999.rdb1.conv1.weight": [1, 2, 3, 3]}), "block 999999999", DENSE),
    ("old_far", shaped({"model.1.sub.0.RDB1.conv1.0.weight": [1, 2, 3, 3],
                        "model.1.sub.999999999.RDB1.conv1.0.weight": [1, 2, 3, 3],
                        "model.0.weight": [2, 3, 3, 3]}), "sub-block 999999999 of the old layout", "model.0.bias 2 is missing"),
    ("old_block_99999999999999999999", shaped({"model.1.sub.0.RDB1.conv1.0.weight": [1, 2, 3, 3],
                                               "model.1.sub.99999999999999999999.weight": [2, 2, 3, 3]}),
     "a number that no integer holds", "model.0.weight 2x3x3x3 is missing"),
    ("more", shaped({**upscaler(), "body.0.rdb1.conv1x1.weight": [1, 2, 1, 1]}), "ESRGAN+'s shortcut", DENSE),
    ("hole", shaped({k: v for k, v in upscaler(blocks=3).items() if not k.startswith("body.1.")}), "no second block", DENSE),
    ("compact_even", shaped({"body.0.weight": [2, 3, 3, 3], "body.1.weight": [2]}), "a chain that ends early", "2 layers"),
    ("compact_out", shaped({"body.0.weight": [2, 3, 3, 3], "body.1.weight": [2], "body.2.weight": [5, 2, 3, 3]}),
     "five output channels of a chain", "5 output channels"),
    ("compact_slope", shaped({"body.0.weight": [2, 3, 3, 3], "body.1.weight": [2, 2], "body.2.weight": [3, 2, 3, 3]}),
     "slopes that are a matrix", "0 features"),
    ("compact_bias", shaped({"body.0.weight": [2, 3, 3, 3], "body.1.weight": [2], "body.2.weight": [3, 2, 3, 3]}),
     "a chain without biases", "body.0.bias 2 is missing"),
    ("cut_header", shaped(upscaler(), 300), "cut short in the header", ""),
    ("cut_data", shaped(upscaler(), -8), "cut short in the values", ""),
    ("other", shaped({"weight": [3, 3]}), "no upscaler", "holds no upscaler"),
    ("prefix_half", shaped({("params_ema." if "rdb1" in k else "params.") + k: v for k, v in upscaler().items()}),
     "two halves of a network under two names", "params_ema.conv_first.weight 2x3x3x3 is missing"),
    ("prefix_more", shaped({f"params.{k}": v for k, v in {**upscaler(), "conv_up4.weight": [2, 2, 3, 3]}.items()}),
     "a fourth doubling behind none", DENSE),
    ("trunk_alone", shaped({"RRDB_trunk.0.RDB1.conv1.weight": [1, 2, 3, 3]}), "nothing but the mark of the second layout",
     "conv_first.weight 2x3x3x3 is missing"),
    ("compact_9", shaped({"body.0.weight": [2, 3, 3, 3], "body.1.weight": [2], "body.2.weight": [243, 2, 3, 3]}),
     "nine times as large", "243 output channels"),
    ("compact_wide", shaped({"body.0.weight": [2, 3, 3, 3], "body.1.weight": [1025], "body.2.weight": [3, 2, 3, 3]}),
     "more slopes than there may be", "1025 features"),
    ("compact_alone", shaped({"body.1.weight": [2]}), "nothing but slopes", "0 layers"),
]:
    put(f"upscaler/{name}.safetensors", data, why, says)

# ---------------------------------------------------------------- quantised weights

def arrays(metadata, *tensors):
    """Tensors (name, values) in a file."""
    header, data = {"__metadata__": metadata}, b""
    names = {"float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8"}
    for name, x in tensors:
        header[name] = tensor(len(data), len(data) + x.nbytes, list(x.shape), names[x.dtype.name])
        data += x.tobytes()
    return st(header, data)


def codes(how, *tensors):
    """In a file whose metadata promises codes."""
    return arrays({"calotype.quantised": how}, *tensors)


def some(shape, dtype=np.float32, value=1):
    return np.full(shape, value, dtype)


HALF, PROMISE = np.float16, {"__metadata__": {"calotype.quantised": "q4"}}
I8, U8, BYTES = (("w.weight", some(s, t)) for s, t in [((2, 64), np.int8), ((2, 32), np.uint8), ((2, 64), np.uint8)])
SCALE, GROUPS = ("w.weight_scale", some(2)), ("w.weight_scale", some((2, 2), HALF))
MINIMUM = ("w.weight_minimum", some((2, 2), HALF))
LEVELS16, LEVELS256 = ("w.weight_levels", some(16)), ("w.weight_levels", some(256))
for name, data, why, says in [
    ("unknown", codes("q3", I8, SCALE), "a format we do not know", "quantised as 'q3'"),
    ("no_name", codes("", I8, SCALE), "a format without a name", "quantised as ''"),
    ("q8_no_scale", codes("q8", I8), "no scale", "scale (2) is missing"),
    ("q8_other_scale", codes("q8", I8, ("weight_scale", some(2))), "a scale of another name", "scale (2) is missing"),
    ("q8_scale_short", codes("q8", I8, ("w.weight_scale", some(1))), "fewer scales than rows", "F32 (2)"),
    ("q8_scale_long", codes("q8", I8, ("w.weight_scale", some(3))), "more scales than rows", "F32 (2)"),
    ("q8_scale_2d", codes("q8", I8, ("w.weight_scale", some((2, 1)))), "scales in a column", "F32 (2)"),
    ("q8_scale_half", codes("q8", I8, ("w.weight_scale", some(2, HALF))), "scales of the wrong type", "F32 (2)"),
    ("q8_scale_codes", codes("q8", I8, ("w.weight_scale", some(2, np.int8))), "scales that are codes", "F32 (2)"),
    ("q8_unsigned", codes("q8", BYTES, SCALE), "unsigned codes", "codes of q8 are I8"),
    ("q8_empty", codes("q8", ("w.weight", some((0, 64), np.int8)), ("w.weight_scale", some(0))), "no rows", "empty"),
    ("q8_empty_row", codes("q8", ("w.weight", some((2, 0), np.int8)), SCALE), "rows without values", "empty"),
    ("q8_nan", codes("q8", I8, ("w.weight_scale", some(2, value=np.nan))), "a scale that is no number", "not finite"),
    ("q8_infinite", codes("q8", I8, ("w.weight_scale", some(2, value=-np.inf))), "an infinite scale", "not finite"),
    ("q4_signed", codes("q4", I8, GROUPS, MINIMUM), "signed codes", "codes of q4 are U8"),
    ("q4_no_scale", codes("q4", U8, MINIMUM), "no scale", "scale (2, 2) is missing"),
    ("q4_no_minimum", codes("q4", U8, GROUPS), "no minimum", "minimum (2, 2) is missing"),
    ("q4_one_group", codes("q4", U8, ("w.weight_scale", some((2, 1), HALF)), MINIMUM), "too few groups", "F16 (2, 2)"),
    ("q4_per_row", codes("q4", U8, SCALE, MINIMUM), "scales of q8", "F16 (2, 2)"),
    ("q4_half_row", codes("q4", ("w.weight", some((2, 33), np.uint8)), GROUPS, MINIMUM), "one group more than scales",
     "F16 (2, 3)"),
    ("q4_minimum_type", codes("q4", U8, GROUPS, ("w.weight_minimum", some((2, 2)))), "a minimum of the wrong type",
     "F16 (2, 2)"),
    ("q4_minimum_nan", codes("q4", U8, GROUPS, ("w.weight_minimum", some((2, 2), HALF, np.nan))),
     "a minimum that is no number", "not finite"),
    ("q4_scale_infinite", codes("q4", U8, ("w.weight_scale", some((2, 2), HALF, np.inf)), MINIMUM),
     "an infinite scale", "not finite"),
    ("q4_huge_shape", st(PROMISE | {"w.weight": tensor(0, 0, [1 << 62, 0], "U8")}), "no codes under a large shape",
     "empty"),
    ("q8_balanced_no_levels", codes("q8-balanced", BYTES, SCALE), "no levels", "levels (256) is missing"),
    ("q8_balanced_signed", codes("q8-balanced", I8, SCALE, LEVELS256), "signed codes", "codes of q8-balanced are U8"),
    ("q8_balanced_16", codes("q8-balanced", BYTES, SCALE, LEVELS16), "16 levels", "F32 (256)"),
    ("q4_balanced_256", codes("q4-balanced", U8, GROUPS, LEVELS256), "256 levels", "F32 (16)"),
    ("q4_balanced_no_scale", codes("q4-balanced", U8, LEVELS16), "no scale", "scale (2, 2) is missing"),
    ("q4_balanced_2d", codes("q4-balanced", U8, GROUPS, ("w.weight_levels", some((1, 16)))), "levels in a row", "F32 (16)"),
    ("q4_balanced_nan", codes("q4-balanced", U8, GROUPS, ("w.weight_levels", some(16, value=np.nan))),
     "a level that is no number", "not finite"),
]:
    put(f"quantised/{name}.safetensors", data, why, says)

# ---------------------------------------------------------------- LoRAs of the good model

# Its to_q is 8 x 8, its conv1 8 x 8 x 3 x 3.
TO_Q, CONV = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "lora_unet_down_blocks_0_resnets_0_conv1"
DOTS = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
DOWN, UP = (TO_Q + ".lora_down.weight", some((2, 8))), (TO_Q + ".lora_up.weight", some((8, 2)))


def lora(*tensors, **said):
    return arrays({"lora_adapter_metadata": said["said"]} if said else {}, *tensors)


def pair(down, up, layer=TO_Q):
    return lora((layer + ".lora_down.weight", some(down)), (layer + ".lora_up.weight", some(up)))


for name, data, why, says in [
    ("empty", lora(), "no tensor", "holds no tensor"),
    ("no_up", lora(DOWN), "no second factor", "there is no up to the down"),
    ("no_down", lora(UP), "no first factor", "there is no down to the up"),
    ("alpha_alone", lora((TO_Q + ".alpha", some(()))), "nothing but an alpha", "to the alpha of"),
    ("down_wide", pair((2, 9), (8, 2)), "one input too many", "do not make up"),
    ("up_tall", pair((2, 8), (9, 2)), "one output too many", "(9, 2)"),
    ("ranks", pair((2, 8), (8, 3)), "two ranks", "(8, 3)"),
    ("rank_0", pair((0, 8), (8, 0)), "a rank of 0", "do not make up"),
    ("flat", pair((16,), (16,)), "factors without shape", "do not make up"),
    ("cubes", pair((2, 8, 1), (8, 2, 1)), "three dimensions", "do not make up"),
    ("up_kernel", pair((2, 8), (8, 2, 1, 3)), "a second factor with a kernel", "do not make up"),
    ("kernel", pair((2, 8, 3, 1), (8, 2, 1, 1), CONV), "half a kernel", "(2, 8, 3, 1)"),
    ("matrix_for_kernel", pair((2, 8), (8, 2), CONV), "a matrix for a convolution", "do not make up"),
    ("kernel_turned", pair((2, 8, 1, 9), (8, 2, 1, 1), CONV), "a kernel of another shape", "do not make up"),
    ("nan", lora(DOWN, (UP[0], some((8, 2), value=np.nan))), "values that are no numbers", "holds a nan"),
    ("infinite", lora((DOWN[0], some((2, 8), HALF, np.inf)), UP), "infinite values", "holds a nan or an infinity"),
    ("alpha_nan", lora(DOWN, UP, (TO_Q + ".alpha", some((), value=np.nan))), "an alpha that is no number", "alpha' holds a nan"),
    ("alpha_two", lora(DOWN, UP, (TO_Q + ".alpha", some(2))), "two alphas", "has 2 values, expected 1"),
    ("alpha_none", lora(DOWN, UP, (TO_Q + ".alpha", some(0))), "an alpha without a value", "has 0 values, expected 1"),
    ("integers", lora((DOWN[0], some((2, 8), np.int8)), UP), "whole numbers", "1 of 2 tensors are no part"),
    ("twice", lora(DOWN, UP, (DOTS + ".lora_A.weight", some((2, 8)))), "one factor under two names", "the same tensor of a LoRA"),
    ("other_layer", pair((2, 8), (8, 2), TO_Q.replace("to_q", "to_x")), "a layer that is not there", "2 of 2 tensors are no part"),
    ("no_layer", lora((".lora_down.weight", some((2, 8)))), "a name without a layer", "1 of 1 tensors are no part"),
    ("ending", lora(DOWN, UP, (TO_Q + ".weight", some((8, 8)))), "the layer itself", "attn1_to_q.weight'"),
    ("long_name", lora(("lora_unet_" + "x" * 3000 + ".lora_up.weight", some((8, 2)))), "a name of 3000 letters", "no part of a LoRA"),
    ("many", lora(*((f"layer_{i}.hada_w1_a", some(1)) for i in range(40))), "a LoHa of 40 tensors", "40 of 40 tensors"),
    ("dora", lora(DOWN, UP, (TO_Q + ".dora_scale", some((8, 1)))), "a DoRA", "dora_scale"),
    ("tucker", lora(DOWN, UP, (TO_Q + ".lora_mid.weight", some((2, 2, 3, 3)))), "a Tucker product", "lora_mid"),
    ("said_text", lora(DOWN, UP, said="alpha"), "metadata that are no JSON", "expected near"),
    ("said_alpha", lora(DOWN, UP, said='{"unet.lora_alpha": "two"}'), "an alpha in letters", "unet.lora_alpha"),
    ("said_dora", lora(DOWN, UP, said='{"unet.use_dora": true}'), "metadata of a DoRA", "DoRA"),
    ("said_pattern", lora(DOWN, UP, said='{"unet.alpha_pattern": {"to_q": 3}}'), "an alpha for each layer", "alpha for each layer"),
    ("cut", lora(DOWN, UP)[:-8], "cut short in the values", ""),
    ("codes", codes("q8", (DOWN[0], some((2, 8), np.int8)), UP), "codes without scales", "scale (2) is missing"),
]:
    put(f"lora/{name}.safetensors", data, why, says)

# ---------------------------------------------------------------- the list of all cases

# How the command line meets the files of a folder: the file of a good model, or of the current folder, that
# the case stands in for ("-": none), and the command. FILE is the case's path, TEXT its content.
DRAW = "txt2img -m MODEL -p x --steps 1 -o x.png"
MEETS = {
    "safetensors": ("-", "inspect FILE"),
    "ckpt": ("-", "convert FILE x.safetensors"),
    "quantised": ("-", "convert FILE x.safetensors --dtype f32"),
    "lora": ("-", "convert MODEL out --lora FILE"),
    "used": ("-", "run unet -m MODEL --in FILE --out x.safetensors"),
    "index": ("MODEL/unet/diffusion_pytorch_model.safetensors.index.json", DRAW),
    "pipeline": ("MODEL/model_index.json", "inspect MODEL"),
    "image": ("-", "inspect FILE"),
    "checkpoint": ("-", "txt2img -m FILE -p x --steps 1 -o x.png"),
    "upscaler": ("-", "upscale -m FILE x.png"),
    "unet": ("MODEL/unet/config.json", DRAW),
    "vae": ("MODEL/vae/config.json", DRAW),
    "text_encoder": ("MODEL/text_encoder/config.json", DRAW),
    "scheduler": ("MODEL/scheduler/scheduler_config.json", DRAW),
    "tokenizer": ("MODEL/tokenizer/*", DRAW),
    "prompt": ("-", "txt2img -m MODEL -p TEXT --steps 300 -o x.png"),
    "lines": ("-", "tokenize -m MODEL --json <"),
    "train_config": ("-", "train FILE --kind vae -m MODEL"),
    "train_folder": ("data", "train TRAIN --kind text2img -m MODEL"),
    "jobs": ("-", "batch FILE -q -t 1 -m MODEL -o out --steps 1"),
    "wildcards": ("-", "batch WILD -q -t 1 -m MODEL -o out --wildcards FILE"),
    "journal": ("out/manifest.jsonl", "batch JOBS -t 1 -m MODEL -o out"),
}
rows = []
for path, (why, says, code) in sorted(cases.items()):
    place, command = MEETS[path.split("/")[0]]
    rows.append("\t".join([path, place.replace("*", path.split("/")[-1]), str(code), says or "-", command, why]))
(OUT / "cases.tsv").write_text("file\tin place of\texit\tsays\tcommand\tbreaks\n" + "\n".join(rows) + "\n")
print(len(cases), "cases,", len(made), "files,",
      sum(p.stat().st_size for p in OUT.rglob("*") if p.is_file()), "bytes")
