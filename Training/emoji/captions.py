"""Captions with their weights. A model that has only seen names knows names; these teach words."""
import collections

# The shares of the kinds of text; what an emoji lacks goes to its name.
TEMPLATES, WITH_KEYWORD, RARE_KEYWORD, ATTRIBUTES = 0.15, 0.15, 0.10, 0.08
# A keyword that many pictures share teaches their average.
RARE = 3
PEOPLE = ("woman", "man", "person", "girl", "boy", "people", "men", "women")
HAIR = {"red hair": "red-haired", "curly hair": "curly-haired", "white hair": "white-haired",
        "blond hair": "blond", "bald": "bald", "beard": "bearded"}
PLURAL = ("grapes", "socks", "cherries", "jeans")
VOWELS = "aeiou"


def article(noun):
    return ("an " if noun[0] in VOWELS else "a ") + noun


def weighted(*parts):
    """Texts of (share, texts) parts, each share divided evenly; a text that comes twice adds up."""
    weights = collections.OrderedDict()
    for share, texts in parts:
        for text in texts:
            weights[text] = weights.get(text, 0) + share / len(texts)
    return [{"text": t, "weight": round(w, 5)} for t, w in weights.items() if w > 0]


class Writer:
    def __init__(self, emoji, attributes):
        self.counts = collections.Counter(k for e in emoji.values() if not e.tone for k in set(e.keywords))
        self.attributes = collections.defaultdict(list)
        self.groups = groups = {e.group for e in emoji.values()}
        for template, names in attributes.items():
            for name in names:
                members = [m for m in (name, f"man {name}", f"woman {name}", f"person {name}") if m in groups]
                if not members:
                    raise SystemExit(f"attributes.json: no emoji is called {name!r} (of {template!r})")
                for member in members:
                    self.attributes[member].append(template)

    def texts(self, emoji):
        # With a tone it is the tone that is to be learnt, and another emoji's name belongs to that one.
        keywords = [] if emoji.tone else [k for k in emoji.keywords if k not in emoji.name.split()]
        rare = [k for k in keywords if self.counts[k] <= RARE and k not in self.groups]
        parts = [
            (TEMPLATES, self.templates(emoji)),
            (WITH_KEYWORD, [f"{emoji.name}, {k}" for k in keywords]),
            (RARE_KEYWORD, rare),
            (ATTRIBUTES, self.phrases(emoji)),
        ]
        taken = sum(share for share, texts in parts if texts)
        return weighted((1 - taken, [emoji.name]), *parts)

    def templates(self, emoji):
        subject, first = emoji.group, emoji.group.split()[0]
        found = [article(emoji.name), f"{emoji.name} emoji"]
        rest = subject[len(first) + 1:]
        if first in PEOPLE and rest in HAIR:
            subject = f"{HAIR[rest]} {first}"
            if rest.endswith("hair"):
                found.append(f"{first} with {rest}" + (f" and {emoji.tone}" if emoji.tone else ""))
            elif rest == "beard":
                found.append(f"{first} with a beard")
        elif first in ("man", "woman") and rest:
            subject = f"{'male' if first == 'man' else 'female'} {rest}"
        if emoji.tone:
            found.append(f"{subject} with {emoji.tone}")
        elif subject != emoji.group:
            found.append(subject)
        if "’" in emoji.name:
            found.append(emoji.name.replace("’", "'"))
        return found

    def phrases(self, emoji):
        templates = self.attributes.get(emoji.group, [])
        nouns = [emoji.group]
        first = emoji.group.split()[0]
        if first in PEOPLE:
            nouns.append(first)
        elif "face" in emoji.group.split():
            nouns.append("face")
        elif "cat" in emoji.group.split():
            nouns.append("cat")
        end = f" with {emoji.tone}" if emoji.tone else ""
        texts = []
        for template in templates:
            for noun in nouns:
                text = template.format(noun)
                if text not in self.groups:
                    texts += [text + end, article(text) + end]
        return texts


def wearing(thing, short, words, accessory):
    """Texts of a thing that wears something."""
    nouns = [short, thing] if short else [thing]
    plain = "wearing " + words
    texts = [f"{article(n)} with {words}" for n in nouns]
    bare = [f"{n} with {words}" for n in nouns] + [f"{n} {plain}" for n in nouns]
    parts = [(0.5, texts), (0.35, bare)]
    if accessory.endswith("hat") or accessory == "cap":
        parts.append((0.15, [f"{n} with a hat" for n in nouns] + [f"{article(nouns[0])} with a hat"]))
    else:
        parts.append((0.15, [f"{article(n)} {plain}" for n in nouns]))
    return weighted(*parts)


def coloured(noun, colour):
    """Texts of a thing in a colour that is not its own."""
    plain = f"{colour} {noun}"
    return weighted((0.6, [plain if noun in PLURAL else article(plain)]), (0.4, [plain]))
