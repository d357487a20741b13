"""Checks the world's tokenizer with transformers: every word one token, ids as laid out, text comes back.

    calotype-world vocab --out DIR; calotype-world prompts --count 2000 --drop 0.5 --synonym 0.3 --motion > FILE
    python tests/parity/world_vocab.py DIR FILE
"""
import json, sys
from transformers import CLIPTokenizer

folder, prompts = sys.argv[1:3]
tok = CLIPTokenizer.from_pretrained(folder)
ids = json.load(open(folder + "/vocab.json", encoding="utf-8"))
assert sorted(ids.values()) == list(range(len(ids)))
assert tok.eos_token_id == tok.pad_token_id == len(ids) - 1 and tok.bos_token_id == len(ids) - 2
assert tok.model_max_length == 24
words, longest = set(), 0
for line in open(prompts, encoding="utf-8"):
    text = line.strip()
    got = tok(text).input_ids
    want = [tok.bos_token_id] + [ids[w + "</w>"] for w in text.split()] + [tok.eos_token_id]
    assert got == want, (text, got, want)
    assert tok.decode(got, skip_special_tokens=True).strip() == text
    longest = max(longest, len(got))
    words |= set(text.split())
assert longest <= 24, longest
for text in ["Ein rotes Häuschen, 12 Türme!", "月 🌙 <b>&amp;</b>", "zebra\x00x"]:
    assert tok.unk_token_id not in tok(text).input_ids[1:-1], text
print(f"{len(words)} words, {len(ids)} tokens, longest caption {longest} tokens")
