"""Golden token ids from transformers' CLIPTokenizer: tests/golden/tokenizer, and CLIP's own vocabulary in .cache.

Run from the repository's root: python tests/parity/tokenizer.py

The strings are not stored: tests/test_tokenizer.c makes the same ones from fragments.json by the generator in
`strings` below. ids.txt has a row for each block of 100 strings and a column for each tokenizer: FNV-1a of the
ids. cases.json has readable cases with all their ids.
"""

import collections
import json
import os
import shutil
import sys
import tempfile

from transformers import CLIPTokenizer

sys.path.insert(0, "tests/tools")
from clip_vocab import END, START, clip_merges, write_vocabulary  # noqa: E402

GOLDEN = "tests/golden/tokenizer"
TALBOT = "assets/talbot/tokenizer"
CLIP = os.environ.get("CALO_CLIP_VOCAB", ".cache/clip-vocab")
BLOCKS, BLOCK = 120, 100

WORDS = """a an the in on over under of and with two three four small large red orange yellow green blue purple
black white gray boat moon star heart house triangle circle square tree cloud sun sea night day field left right
next to above below sunny foggy photo watercolor""".split()

FRAGMENTS = WORDS + [
    " ", " ", " ", "  ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u3000",
    "\u200b", "\u180e", "\ufeff", "\x00", "\x01", "\x1b", "\x1f", "\x7f", "\ufffd", "\ufffe", "\U0010ffff", "\ue000",
    "A red BOAT", "The Moon", "SUN", "it's", "IT'S", "don't", "we'll", "I'd", "they've", "you're", "i'm", "''s", "'",
    "\u2019s", "'ſ", "'S", "'LL", "'re", "0", "12", "3.14", "1,000", "½", "²", "Ⅷ", "ⅷ", "٣", "१२", "一二", "①", "…",
    "!", "!!", "!!!", "?!", ",", ".", "-", "--", "_", "snake_case", "#tag", "@user", "a/b", "c:\\d", "(x:1.3)", "[a|b]",
    "&amp;", "&lt;p&gt;", "&#39;", "&nbsp;", "<br/>", "<lora:x:1>", "https://example.org/?q=1&r=2", "100%", "$5", "€", "£",
    "é", "e\u0301", "É", "E\u0301", "ñ", "n\u0303", "ü", "Å", "\u212b", "ﬁ", "ﬀ", "ß", "ẞ", "İ", "I\u0307", "ı", "i\u0307",
    "Σ", "ΟΔΟΣ", "ὈΔΥΣΣΕΎΣ", "ς", "Ω", "\u2126", "ᾼ", "Ǆ", "ǅ", "Ⓐ", "ⓐ", "Ａ", "ａ", "Ⱥ", "K", "Москва", "МОСКВА", "Ђ",
    "q\u0323\u0307", "q\u0307\u0323", "a\u0315\u0300\u05ae\u0062", "\u0301", "\u0323\u0301\u0323", "s\u0323\u0307",
    "שָׁלוֹם", "مرحبا", "السَّلَام", "नमस्ते", "क़", "\u0958", "தமிழ்", "ไทย", "ພາສາ", "ქართული", "ᲥᲐᲠ", "አማርኛ", "Ꭰ", "ꭰ",
    "日本語", "東京", "かな", "カナ", "が", "か\u3099", "ﾊﾟ", "中文字符", "龍", "\uf9d0", "한국어", "\u1112\u1161\u11ab", "각", "\u1100\u1161\u11a8",
    "😀", "😀😀", "👍🏽", "👩‍👩‍👧", "🇫🇷", "❤️", "☀", "🌙", "⛵", "🏴\U000e0067\U000e007f", "𝒜", "𝟘", "𐐀", "𐐨", "𞤀", "🀄", "\U0001d15e",
    START, END, START.upper(), END.upper(), "<|StartOfText|>", "<|endoftext|", "|>", "<|", "startoftext", "<|endoftext|>!",
    "endoftext|>", "<mask>", "<MASK>", " <mask> ", "Éden", "E\u0301DEN", "éden", "</w>", "Ġ", "Ġa", "Ā", "ÿ", "¡", "®", "\xad",
]  # fmt: skip

# Code points that every Unicode version since 13 treats alike.
RANGES = [
    [0x00, 0x7F], [0x80, 0x24F], [0x250, 0x2FF], [0x300, 0x36F], [0x370, 0x3FF], [0x400, 0x52F], [0x591, 0x5F4],
    [0x620, 0x6FF], [0x900, 0x97F], [0x1100, 0x11FF], [0x1E00, 0x1FFF], [0x2000, 0x206F], [0x2070, 0x22FF],
    [0x2460, 0x27BF], [0x2DE0, 0x2DFF], [0x3000, 0x30FF], [0x4E00, 0x9FEF], [0xAC00, 0xD7A3], [0xF900, 0xFA6D],
    [0xFB00, 0xFB06], [0xFB1D, 0xFB4F], [0xFE00, 0xFE0F], [0xFF00, 0xFFEF], [0x10400, 0x1044F], [0x1D100, 0x1D1E8],
    [0x1D400, 0x1D7FF], [0x1E900, 0x1E943], [0x1F300, 0x1F64F], [0x20000, 0x2A6D6], [0x2F800, 0x2FA1D],
    [0x1AB0, 0x1ACE], [0x1DC0, 0x1DFF], [0x20D0, 0x20F0], [0xE0020, 0xE007F], [0xF0000, 0xF00FF],
]  # fmt: skip


def learn_merges(words, count):
    """Byte pair encoding; of equally frequent pairs the first in alphabetical order."""
    corpus = [[*w[:-1], w[-1] + "</w>"] for w in words]
    merges = []
    for _ in range(count):
        pairs = collections.Counter(p for w in corpus for p in zip(w, w[1:]))
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        for w in corpus:
            for i in range(len(w) - 2, -1, -1):
                if (w[i], w[i + 1]) == best:
                    w[i : i + 2] = [w[i] + w[i + 1]]
    return merges


def token(text, **flags):
    return {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **flags}


def configurations(size):
    """Name -> (tokenizer_config.json, special_tokens_map.json), as Stable Diffusion 1 and 2 and SDXL have them; and
    one with flags that no published model uses."""
    base = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    named = {"bos_token": token(START), "eos_token": token(END), "unk_token": token(END)}
    exclamation = token("!", normalized=False, special=True)
    decoder = {"0": exclamation, str(size - 2): token(START, special=True), str(size - 1): token(END, special=True)}
    strip = {
        str(size - 2): token(START, special=True, normalized=False, lstrip=True),
        str(size - 1): token(END, special=True, rstrip=True),
        str(size): token("<mask>", lstrip=True, rstrip=True),
        str(size + 1): token("E\u0301den"),
    }
    return {
        "plain": ({}, None),
        "sd1": (base, {**named, "pad_token": END}),
        "sd2": (base, {**named, "pad_token": "!"}),
        "sdxl": ({**base, "pad_token": "!", "added_tokens_decoder": decoder}, None),
        "strip": ({**base, "model_max_length": 10**30 + 24, "added_tokens_decoder": strip}, None),
    }


def splitmix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        yield z ^ z >> 31


def strings():
    """Bytes, sometimes invalid UTF-8. Every thousandth one has a piece of 100,000 bytes or more."""
    for i in range(BLOCKS * BLOCK):
        random = splitmix(i)
        draw = lambda n: next(random) % n
        text = b""
        for _ in range(1 + draw(12)):
            kind = draw(16)
            if kind < 10:
                piece = FRAGMENTS[draw(len(FRAGMENTS))].encode()
            elif kind < 15:
                low, high = RANGES[draw(len(RANGES))]
                piece = chr(low + draw(high - low + 1)).encode()
            else:
                piece = bytes(draw(256) for _ in range(1 + draw(4)))
            times = 1 if draw(32) else 1 + draw(64)
            text += piece * times
        if i % 1000 == 999:
            text *= 100000 // len(text) + 1
        yield text


def fnv1a(state, values):
    for v in values:
        for byte in v.to_bytes(4, "little"):
            state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def encode(tokenizer, text):
    return tokenizer(text.decode("utf-8", "replace"), add_special_tokens=False).input_ids


def block_hashes(tokenizer, texts):
    for b in range(BLOCKS):
        state = 0xCBF29CE484222325
        for text in texts[b * BLOCK : (b + 1) * BLOCK]:
            ids = encode(tokenizer, text)
            state = fnv1a(state, [len(ids), *ids])
        yield f"{state:016x}"


CASES = [
    "", " ", "a red boat on the sea", "A  RED\tboat!", "hello!", "a<|endoftext|>b", "<|ENDOFTEXT|>!", "<|STARTOFTEXT|>!?",
    "it's IT'S ''s", "12 345", "&amp;", "İstanbul", "ΟΔΟΣ", "cafe\u0301", "café", "日本語", "😀", "x\u0000y", "a <mask>  b", "E\u0301DEN",
]  # fmt: skip
ROWS = ["", "hello!", "the sun " * 60]


def main():
    os.makedirs(GOLDEN, exist_ok=True)
    merges = learn_merges(WORDS, 60)
    write_vocabulary(GOLDEN, merges)
    write_vocabulary(CLIP, clip_merges())
    with open(f"{GOLDEN}/fragments.json", "w") as f:
        json.dump({"fragments": FRAGMENTS, "ranges": RANGES}, f)
        f.write("\n")
    texts = list(strings())
    columns, cases = {}, []
    for vocab in (GOLDEN, CLIP):
        small = vocab == GOLDEN
        size = len(json.load(open(f"{vocab}/vocab.json")))
        for name, (config, special) in configurations(size).items():
            with tempfile.TemporaryDirectory() as folder:
                for file in ("vocab.json", "merges.txt"):
                    shutil.copy(f"{vocab}/{file}", folder)
                json.dump(config, open(f"{folder}/tokenizer_config.json", "w"))
                if special:
                    json.dump(special, open(f"{folder}/special_tokens_map.json", "w"))
                t = CLIPTokenizer.from_pretrained(folder)
            columns[name if small else "clip_" + name] = list(block_hashes(t, texts))
            if small:
                rows = t(ROWS, padding="max_length", max_length=77, truncation=True).input_ids
                ids = [encode(t, c.encode()) for c in CASES]
                files = {"config": config, "special_tokens_map": special}
                cases.append({"name": name, **files, "ids": ids, "rows": rows})
    columns["talbot"] = list(block_hashes(CLIPTokenizer.from_pretrained(TALBOT), texts))
    with open(f"{GOLDEN}/ids.txt", "w") as f:
        f.write(" ".join(columns) + "\n" + "".join(" ".join(row) + "\n" for row in zip(*columns.values())))
    with open(f"{GOLDEN}/cases.json", "w") as f:
        json.dump({"texts": CASES, "row_texts": ROWS, "tokenizers": cases}, f)
        f.write("\n")


main()
