"""Makes Fixtures/tokenizer: what transformers.CLIPTokenizer gives for a few hundred texts.

    python Tests/Golden/make_tokenizer.py

Needs transformers 5. The full vocabulary is derived from Sources/Langevin/Resources/clip-merges.txt as OpenAI's
code derives it; the small one is that of Fixtures/tiny-sd/tokenizer.
"""

import json
import random
import tempfile
from pathlib import Path

import transformers
from transformers import CLIPTokenizer

here = Path(__file__).resolve().parent
out = here / "Fixtures" / "tokenizer"
merges_file = here.parents[1] / "Sources" / "Langevin" / "Resources" / "clip-merges.txt"
LENGTH = 77


def alphabet():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


def token(content, normalized):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}


START, END = "<|startoftext|>", "<|endoftext|>"
# The configuration files as they stand in Stable Diffusion 1.x and 2.x folders, and in newer saves of the latter.
marks = {"bos_token": token(START, True), "eos_token": token(END, True), "unk_token": token(END, True)}
config = {k: {"__type": "AddedToken", **v} for k, v in marks.items()}
layouts = {
    "plain": {"tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH}},
    "sd1": {
        "tokenizer_config.json": {**config, "model_max_length": LENGTH, "pad_token": END},
        "special_tokens_map.json": {**marks, "pad_token": END},
    },
    "sd2": {
        "tokenizer_config.json": {**config, "model_max_length": LENGTH, "pad_token": END},
        "special_tokens_map.json": {**marks, "pad_token": "!"},
    },
    "sd2-new": {
        "tokenizer_config.json": {
            "added_tokens_decoder": {
                "0": {**token("!", False), "special": True},
                "49406": {**token(START, True), "special": True},
                "49407": {**token(END, True), "special": True},
            },
            "bos_token": START, "eos_token": END, "unk_token": END, "pad_token": "!",
            "model_max_length": LENGTH,
        },
        "special_tokens_map.json": {"pad_token": END},
    },
}


def texts():
    fixed = [
        "", " ", "\t\n \r\n", "a", "A", "!", "'", "''", "'s", "''s", "<", "<|", "<|endoftext|", "|>",
        "a photo of a cat", "A Photo Of A CAT", "  leading and trailing  ", "tabs\tand\nnewlines\r\n\r\nand  spaces",
        "grinning face", "smiling face with heart-eyes", "red heart", "flag: Türkiye", "man: red hair",
        "it's we're I've I'm you'll he'd don't 'tis 'twas rock'n'roll", "IT'S WE'RE I'VE I'M YOU'LL HE'D DON'T",
        "students' 's's's 'serious 'reverend 'll'll ''ll 'S", "it’s a typographic apostrophe’s test",
        "1 12 123 1234567890 3.14 1,000,000 10^6 2024-01-31 v1.5 4k 8K 50mm f/1.8", "½ ¾ ² ³ ① Ⅷ ٣ ४ 五 〇 ",
        "!!! ??? ... ,,, ;;; --- ___ *** ((( ))) [[[ ]]] {{{ }}}", "a!b?c.d,e;f:g-h_i*j(k)l[m]n{o}p",
        "(masterpiece:1.2), [best|quality], {highly detailed}, artstation, 8k, --ar 16:9",
        "http://example.com/a?b=c&d=e#f user@example.org C:\\path\\to\\file", "#hashtag @mention $100 50% & +=~`^",
        "café résumé naïve Ångström", "cafe\u0301 re\u0301sume\u0301 nai\u0308ve A\u030angstro\u0308m",
        "e\u0301\u0302\u0323 q\u0307\u0323 \u0301alone \u1100\u1161\u11a8", "İstanbul ISPARTA ıspanak Iğdır",
        "ΟΔΥΣΣΕΥΣ Σίσυφος ς ΑΣ", "STRASSE Straße ẞ ſ K Å Ω ﬁ ﬂ ＦＵＬＬ ｗｉｄｔｈ", "Привет, как дела? ЁЖИК ёжик",
        "你好，世界！一只猫在月光下。", "こんにちは世界 カタカナ ひらがな ﾊﾝｶｸ が か\u3099", "안녕하세요 세계 한국어",
        "مرحبا بالعالم، قطة جميلة", "שלום עולם חָתוּל", "नमस्ते दुनिया बिल्ली", "สวัสดีชาวโลก แมว", "வணக்கம் உலகம்",
        "Xin chào thế giới tiếng Việt", "Dzień dobry świecie żółć", "Ĉu vi parolas Esperanton?", "ქართული ენა ᲥᲐᲠᲗᲣᲚᲘ",
        "ᏣᎳᎩ ꭰꭱ", "𝐁𝐨𝐥𝐝 𝓢𝓬𝓻𝓲𝓹𝓽 𝟘𝟙𝟚 𐐀𐐨", "😀", "😀😀 😀", "👍🏽👩‍👩‍👧‍👦🏳️‍🌈🇹🇷 emoji", "❤️ ❤ ☺️ ☺ ✈︎ ✈️ 1️⃣ #️⃣ ©️ ™",
        "a\u00a0b\u1680c\u2003d\u2028e\u2029f\u202fg\u205fh\u3000i\u0085j", "a\u200bb\ufeffc\u2060d\u180ee\u00adf",
        "a\u001cb\u001dc\u001ed\u001fe\u000bf\u000cg", "a\u0000b\u0001c\u007fd\u0080e\u009ff",
        "\ufffd \ufffe \U0010ffff \ue000 \U000f0000", "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307b",
        f"a {START} b {END} c", f"{START}{END}", f"x{END}y!!{START}!!", f"a {END.upper()} b", f"!!{START.upper()}!!",
        f"!!{END.title()}??'s", "<|startoftext|", "<|START|>", "<|endoftext|>" * 5, "<|endoftext|>'s", "!" * 10,
        "hello!world!!", "the quick brown fox jumps over the lazy dog " * 12, "word " * 100, "a" * 500, "ab" * 300,
        "supercalifragilisticexpialidocious" * 20, "!?" * 200, "1" * 120, "猫" * 100, "😀" * 60, "é" * 200, "'s" * 50,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "antidisestablishmentarianism pneumonoultramicroscopic",
        "zxqjkvwp xzqwj", "New York City, NY 10001", "C++ & C# vs. F#", "e.g., i.e., etc.", "  'quoted'  \"double\"  «guillemets» „low“",
    ]
    generator = random.Random(20)
    pools = [
        [chr(c) for c in range(32, 127)],
        [chr(c) for c in range(0xA0, 0x250)],
        [chr(c) for c in range(0x300, 0x340)] + list("aeiouAEIOU"),
        [chr(c) for c in range(0x370, 0x530) if chr(c).isprintable()],
        [chr(c) for c in range(0x1F300, 0x1F650)] + ["\u200d", "\ufe0f", "\U0001f3fb"],
        [chr(c) for c in range(0x4E00, 0x4F00)] + [chr(c) for c in range(0x3040, 0x3100)] + list("，。"),
        [chr(c) for c in range(0xAC00, 0xAD00)] + [chr(c) for c in range(0x1100, 0x1200)],
        list("'stremvld <|>!") + [START, END, "'s", "'re", " "],
        list(" \t\n\u00a0\u3000") + list("aB3.'"),
    ]
    for i in range(180):
        pool = pools[i % len(pools)] if i % 3 else [c for p in pools for c in p]
        fixed.append("".join(generator.choice(pool) for _ in range(generator.randint(1, 40))))
    merged = [l.split() for l in merges_file.read_text(encoding="utf-8").split("\n")[1:] if l]
    for _ in range(60):
        words = generator.sample(merged, generator.randint(1, 12))
        fixed.append(" ".join("".join(w).replace("</w>", "") for w in words))
    return fixed


def main():
    out.mkdir(parents=True, exist_ok=True)
    merges = [l for l in merges_file.read_text(encoding="utf-8").split("\n")[1:] if l]
    assert len(merges) == 49152 - 256 - 2
    chars = alphabet()
    tokens = chars + [c + "</w>" for c in chars] + [m.replace(" ", "") for m in merges] + [START, END]
    vocabulary = {t: i for i, t in enumerate(tokens)}
    assert len(vocabulary) == 49408
    sample = texts()
    sets = []

    def add(name, tokenizer, length, files, cases):
        sets.append({
            "name": name, "files": files, "length": length, "maximum": tokenizer.model_max_length,
            "start": tokenizer.bos_token_id, "end": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id,
            "ids": [tokenizer(t, add_special_tokens=False)["input_ids"] for t in cases],
            "padded": [tokenizer(t, padding="max_length", truncation=True, max_length=length)["input_ids"]
                       for t in cases[:40]],
        })

    emoji = CLIPTokenizer.from_pretrained(here / "Fixtures" / "tiny-sd" / "tokenizer")
    add("emoji", emoji, 32, {}, sample)
    for name, files in layouts.items():
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
            Path(folder, "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
            for file, content in files.items():
                Path(folder, file).write_text(json.dumps(content), encoding="utf-8")
            tokenizer = CLIPTokenizer.from_pretrained(folder)
            add(name, tokenizer, LENGTH if name == "plain" else 16, {k: json.dumps(v) for k, v in files.items()}, sample)
    document = {"transformers": transformers.__version__, "texts": sample, "sets": sets}
    text = json.dumps(document, separators=(",", ":"))
    (out / "golden.json").write_text(text, encoding="utf-8")
    print(len(sample), "texts,", len(text), "bytes")


main()
