"""Golden fixture of T5's tokenizer: a Unigram model trained here, and what Hugging Face's tokenizers make of it.

    python make_unigram.py

Needs sentencepiece, tokenizers and babel. The texts are names and phrases of Unicode's CLDR in all its
languages, as babel has them (Unicode License v3), and strings made up here. Writes to Fixtures/unigram, gzipped:

    tokenizer.json    the model, converted as transformers converts T5's, with byte pieces in the vocabulary
    variants.json     what each variant replaces in it
    lines.json        texts
    hashes.bin        per variant and line: how many ids (uint16) and their 32-bit FNV-1a hash (over little-endian int32)
"""

import gzip
import io
import json
import pathlib
import random
import struct
import tempfile
import unicodedata

import sentencepiece
from babel import Locale, localedata
from tokenizers import Tokenizer, normalizers, processors
from tokenizers.models import Unigram
from sentencepiece import sentencepiece_model_pb2 as model_pb2

OUT = pathlib.Path(__file__).parent / "Fixtures" / "unigram"
PIECES = 5000


def phrases():
    """Every text of CLDR, in a fixed order."""
    found = set()

    def walk(value):
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, (list, tuple)):
            for item in value:
                walk(item)
        elif hasattr(value, "keys"):
            for key in sorted(value.keys(), key=str):
                walk(value[key])

    for identifier in sorted(localedata.locale_identifiers()):
        data = Locale.parse(identifier)._data
        for key in ("languages", "territories", "scripts", "variants", "currency_names", "unit_display_names",
                    "months", "days", "eras", "quarters", "day_periods", "date_fields", "unit_patterns", "list_patterns"):
            if key in data:
                walk(data[key])
    return sorted(p for p in found if 2 < len(p) and "\n" not in p)


def lines(texts, generator):
    emoji = ["👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇹🇷🇩🇪🇯🇵", "❤️", "☺", "1️⃣", "#️⃣", "©️", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "👨🏿‍🚀", "🧑‍🤝‍🧑", "🫠", "🪿"]
    fixed = [
        "", " ", "  ", "\t", "\n", " \n ", "\u3000", "▁", "▁▁", " ▁ ", "▁a", "a▁b", "a▁▁b ▁c▁", "a", " a", "a ", "  a  b  ",
        "a     b\t\tc\r\nd\n\ne", "</s>", "<s>", "<unk>", "<pad>", "a</s>b", "a </s> b", "a  </s>  b", "<0x41>", "a<0x0A>b",
        "<extra_id_0>", "x<extra_id_1>y", " <extra_id_1> <extra_id_2>  z", "<extra_id_99><extra_id_100>", "<extra_id_",
        "x[WORD]y", "x [WORD] y", "[WORD]", "1[WORD]", "é[WORD].", "([WORD])", "x[LEFT]y", "x  [LEFT]  y", "x[RIGHT]y",
        "x  [RIGHT]  y", "x  [BOTH]  y[BOTH]  [BOTH] z", "[LEFT][RIGHT][BOTH]", "Ｆull", "x ﬁne y", "ＦＵＬＬ Ｆull ful Full",
        "cafe\u0301 café", "A\u030a Å \u212b", "ﬁ ﬂ ﬃ ﬅ ĳ ǆ ŉ", "①②③ Ⅷ ½ ¾ ㎏ ㍿ ㏂ ™ ℃ №", "ｶﾞｷﾞ ﾊﾟ ガギ", "が か\u3099 は\u309a",
        "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8", "각 가\u11a8 \u1100\u1161\u11a8", "ﷺ ﷽ ﻻ ﺍﻟﺴﻼﻡ", "مرحبا بالعالم", "नमस्ते दुनिया क्षत्रिय",
        "สวัสดีชาวโลก น้ำ", "你好，世界！", "你好　世界", "こんにちは世界", "שָׁלוֹם עוֹלָם", "வணக்கம்", "ກຳ ນ້ຳ", "བོད་སྐད", "ខ្មែរ", "မြန်မာ",
        "a\u00a0b\u1680c\u2003d\u2028e\u2029f\u202fg\u205fh\u3000i\u0085j", "a\u200bb\ufeffc\u2060d\u180ee\u00adf", "a\u0000b\u0001c\u007fd\u0080e\u009ff",
        "\u0000", "\u0001 \u0002", "\u200b", "\ufeffx", "a\u001cb\u001dc\u001ed\u001fe\u000bf\u000cg", "\ufffd \ufffe \U0010ffff \ue000 \U000f0000",
        "\u0301", "\u0301a", "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307b", "\u0301\u0301", " \u0301 \u0301", "´ ¨ ¯ ¸ ` ^", "a´b¨c",
        "e\u0301\u0302\u0323 q\u0307\u0323", "ẛ\u0323 ſ", "“curly” ‘quotes’ — dash – … ellipsis", "「日本」『語』、。", "x²+y³=z⁴ ∑∏∫ ∂ ≠≤≥",
        "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘", "𝐁𝐨𝐥𝐝 𝓢𝓬𝓻𝓲𝓹𝓽 𝟘𝟙𝟚 𐐀𐐨", "\u0340\u0341\u0343\u0344", "\U0001d15e", "İstanbul ıI ΟΔΥΣΣΕΥΣ ẞ",
        "\u0e33 \u0eb3 \u0f77 \u0f79", "क़ ख़ ड़", "\u06c0 \u06c2", "\u1e9b", "a" * 3000, "▁" * 50, "é" * 400, "ab" * 500, "\u0301" * 40, "x" + "\u0301" * 40,
        "supercalifragilisticexpialidocious" * 8, "猫" * 300, "😀" * 90, "1" * 200, "!?" * 100, "the quick brown fox " * 60, " " * 300, "a" + " " * 300 + "b",
        "http://example.com/a?b=c&d=e#f user@example.org C:\\path\\to", "<b>bold</b> &amp; &lt;", "tab\tseparated\tvalues", "line one\nline two\r\nline three\r",
        "".join(emoji), *emoji, " ".join(emoji),
    ]
    result = fixed + generator.sample(texts, 1500)
    for _ in range(500):
        separator = generator.choice([" ", " ", "  ", ", ", "\n", "", "\u3000", " - ", "/"])
        result.append(separator.join(generator.sample(texts, generator.randint(2, 5))))
    for form in ("NFD", "NFKD", "NFC"):
        result += [unicodedata.normalize(form, t) for t in generator.sample(texts, 120)]
    result += [t.upper() for t in generator.sample(texts, 60)]
    result += ["".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t) for t in generator.sample(texts, 60)]
    assigned = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    marks = [c for c in assigned if unicodedata.category(c)[0] == "M"]
    pools = [assigned, marks + list("aeqか가あकกα "), [c for c in assigned if unicodedata.decomposition(c)],
             emoji + ["\u200d", "\ufe0f", "\U0001f3fb", "🏻", "👩", " "], [chr(c) for c in range(0x1100, 0x1200)] + ["가", "한"],
             list(" \t\n▁\u00a0\u3000\u200b") + list("aB3.'"), ["</s>", "<extra_id_5>", "[WORD]", "[LEFT]", "[BOTH]", "Full", "fi", "ﬁ", " ", "a", "é", "_", "  "],
             [chr(c) for c in range(0xA0)], [chr(c) for c in range(0x900, 0xE00)] + ["\u200c", "\u200d"]]
    for index in range(540):
        pool = pools[index % len(pools)]
        result.append("".join(generator.choice(pool) for _ in range(generator.randint(1, 30))))
    # The reference's normal forms are those of an old version of Unicode; where it differs says nothing of this one's.
    return [r for r in result if normalizers.NFD().normalize_str(r) == unicodedata.normalize("NFD", r)]


def train(texts):
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=stream, vocab_size=PIECES, model_type="unigram",
        normalization_rule_name="nmt_nfkc", byte_fallback=True, character_coverage=0.995, num_threads=1,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, max_sentence_length=100000, minloglevel=2, seed_sentencepiece_size=100000)
    proto = model_pb2.ModelProto()
    proto.ParseFromString(stream.getvalue())
    return proto


def added(content, id, special=True, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": not special, "special": special} | flags


def variants(document):
    """What each variant replaces."""
    charsmap = document["normalizer"]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    count = len(document["model"]["vocab"])
    more = [added("[WORD]", count, False, single_word=True), added("[LEFT]", count + 1, lstrip=True),
            added("[RIGHT]", count + 2, rstrip=True), added("[BOTH]", count + 3, False, lstrip=True, rstrip=True),
            added("ﬁne", count + 4, False), added("Full", count + 5, False, single_word=True), added("Ｆull", count + 6)]

    def regex(pattern, content):
        return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}

    def string(pattern, content):
        return {"type": "Replace", "pattern": {"String": pattern}, "content": content}

    def sequence(*steps):
        return {"type": "Sequence", "normalizers": list(steps)}

    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    return {
        # As converters of T5's and UMT5's models wrote them up to transformers 4.
        "umt5": {"normalizer": sequence(charsmap, strip, regex(" {2,}", "▁")), "pre_tokenizer": metaspace},
        "umt5-bytes": {"normalizer": sequence(charsmap, strip, regex(" {2,}", "▁")), "pre_tokenizer": metaspace,
                       "byte_fallback": True},
        # As the first files of T5 have it.
        "t5": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}]}},
        # As transformers 5 converts any SentencePiece model.
        "generic": {"normalizer": sequence(charsmap, regex(r"\A +| +\z", ""), regex(" {2,}", " "), string(" ", "▁"),
                                           regex(r"\A▁", "▁▁")),
                    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [metaspace | {"split": False}]},
                    "byte_fallback": True},
        # Tokens that look at what surrounds them, and a prefix at the text's beginning only.
        "added": {"normalizer": charsmap, "pre_tokenizer": metaspace | {"prepend_scheme": "first"}, "more_tokens": more},
        "first": {"normalizer": sequence({"type": "Strip", "strip_left": True, "strip_right": True}, string("  ", " "), charsmap),
                  "pre_tokenizer": metaspace | {"prepend_scheme": "first"}, "more_tokens": more},
        # Without cuts, as tokenizers of language models have it.
        "prepend": {"normalizer": sequence({"type": "Prepend", "prepend": "▁"}, string(" ", "▁")), "pre_tokenizer": None,
                    "byte_fallback": True},
        "never": {"normalizer": sequence({"type": "NFD"}, {"type": "Lowercase"}, {"type": "NFC"}),
                  "pre_tokenizer": metaspace | {"prepend_scheme": "never", "replacement": "_"}, "post_processor": None},
        "bare": {"normalizer": None, "pre_tokenizer": None, "added_tokens": []},
    }


def variant(document, changes):
    """The same composition as in T5TokenizerTests.swift."""
    document = json.loads(json.dumps(document))
    for key, value in changes.items():
        if key == "byte_fallback":
            document["model"]["byte_fallback"] = value
        elif key == "more_tokens":
            document["added_tokens"] += value
        else:
            document[key] = value
    return document


def fnv(ids):
    value = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def write(name, data):
    (OUT / (name + ".gz")).write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{name}: {len(data)} bytes, {(OUT / (name + '.gz')).stat().st_size} compressed")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    generator = random.Random(64)
    texts = phrases()
    print(len(texts), "phrases")
    proto = train(texts)
    vocabulary = [(p.piece, round(p.score, 4)) for p in proto.pieces]
    vocabulary += [(f"<extra_id_{i}>", 0.0) for i in range(99, -1, -1)]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)])
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [added("<pad>", 0), added("</s>", 1), added("<unk>", 2)] + [
        added(piece, id) for id, (piece, _) in enumerate(vocabulary) if piece.startswith("<extra_id_")]
    changes = variants(document)
    texts = lines(texts, generator)
    hashes = b""
    for name, change in changes.items():
        reference = Tokenizer.from_str(json.dumps(variant(document, change)))
        ids = [reference.encode(t).ids for t in texts]
        unknown = sum(i.count(2) for i in ids)
        print(f"{name}: {sum(map(len, ids))} ids, {unknown} unknown")
        hashes += b"".join(struct.pack("<HI", len(i), fnv(i)) for i in ids)
    # The map of characters stands in the document once.
    for change in changes.values():
        steps = (change.get("normalizer") or {}).get("normalizers", [change.get("normalizer")])
        for index, step in enumerate(steps):
            if step and step["type"] == "Precompiled":
                steps[index] = {"type": "Precompiled"}
        if change.get("normalizer", {}) and change.get("normalizer", {}).get("type") == "Precompiled":
            change["normalizer"] = {"type": "Precompiled"}

    def compact(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    write("tokenizer.json", compact(document))
    write("variants.json", compact(changes))
    write("lines.json", json.dumps(texts, separators=(",", ":")).encode())
    write("hashes.bin", hashes)
    print(len(texts), "lines")


main()
