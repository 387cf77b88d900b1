"""Golden fixture of prompt cleaning: what diffusers' WanPipeline makes of prompts before it tokenizes them.

    python make_prompts.py

writes Fixtures/prompts.json: pairs of a prompt and what is left of it. Prompts in which ftfy repairs the encoding are
left out, since that repair is not implemented.
"""

import html.entities
import json
import pathlib
import random

import ftfy
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

OUT = pathlib.Path(__file__).parent / "Fixtures" / "prompts.json"
FIXED = [
    "", " ", "\n\n", "a cat", "  a \t cat\r\n\r\non  a\u3000mat \u00a0", "“curly” ‘quotes’ it’s ʼn ŉ ‛x‟", "ﬁne ﬂuﬃer ﬅ ﬆ ǅ Ǌ ĳ Ĳ",
    "ＦＵＬＬ　ｗｉｄｔｈ！＇ ﾊﾝｶｸ ｶﾞ ￡ ￥ ﾡ ￩", "e\u0301 A\u030a \u212b \u1112\u1161\u11ab q\u0307\u0323", "a\u2028b\u2029c\u0085d\re", "\x1b[36;44mblue\x1b[0m \x1b[ x \x1b[12",
    "a\x00b\x08c\x0bd\x0ce\x1ff\x7fg\ufeffh\ufffci\u206aj\u200dk", "x\x1cy\x1dz", "Bread &amp; butter", "&lt;b&gt; &quot;q&quot; &#39;s&#39; &#x27;t&#x27; &nbsp; &copy; &hellip;",
    "&amp;amp;amp; &amp;lt;", "&amp;amp;eacute;", "a<b &eacute; &amp;eacute;", "&eacute;\na<b &eacute;\n&eacute;", "&EACUTE; &NTILDE; &nTILDE; &SZLIG; &Eacute; &EURO; &COPY; &AMP;",
    "this&not that &notit; &notin; &ampersand &ltx &gt5", "&#0; &#13; &#128; &#x80; &#129; &#159; &#xD800; &#x110000; &#99999999999; &#1; &#xFDD0; &#xFFFE; &#x1FFFF;", "&#; &#x; &; && &a;",
    "&#59; &#x3b; &semi;", "&#60 &#60; &#x3C", "&acE; &NotEqualTilde; &fjlig; &bne;", "&" + "a" * 40 + ";", "&CounterClockwiseContourIntegral;", "&amp\u037e &\u212aappa;",
    "1 < 2 && 3 > 2", "AT&T; R&D, Q&A", "http://x.y/?a=1&copy=2&reg=3&b", "a…b – c — d", "naïve café über", "½ ² ™ №", "👩‍👩‍👧‍👦 🏳️‍🌈 ❤️", "\u0091quoted\u0092 \u0093x\u0094", "tab\there",
]


def main():
    generator = random.Random(7)
    names = sorted(html.entities.html5)
    texts = list(FIXED)
    parts = ["a cat", " ", "  ", "\n", "\t", "<", "&", ";", "#", "é", "“", "’", "ﬁ", "Ａ", "1", "x1F600", "&#", "&#x", "e\u0301", "\u200b", "\u00a0", "\r", "猫", "&amp;"]
    for _ in range(900):
        pieces = []
        for _ in range(generator.randint(1, 8)):
            name = generator.choice(names)
            pieces.append(generator.choice([
                generator.choice(parts), generator.choice(parts), "&" + name, "&" + name.upper(), "&" + name.rstrip(";") + generator.choice(parts),
                f"&#{generator.randint(0, 400)}" + generator.choice(["", ";"]), f"&#x{generator.randint(0, 0x2FFF):x}" + generator.choice(["", ";"])]))
        texts.append("".join(pieces))
    pairs = [[t, prompt_clean(t)] for t in texts if ftfy.fix_text(t) == ftfy.fix_text(t, fix_encoding=False)]
    OUT.write_text(json.dumps(pairs, separators=(",", ":")) + "\n")
    print(len(pairs), "of", len(texts), "prompts")


main()
