"""Prompts: words in the place of class numbers, made of the names of the classes by templates."""

import dataclasses
import difflib
import functools
import re
import unicodedata

import numpy as np

# The first one makes the plain prompt of a class. They say nothing that a label does not tell.
TEMPLATES = (
    "a photo of {a} {name}",
    "a picture of {a} {name}",
    "an image of {a} {name}",
    "{a} {name}",
    "{name}",
)
PADDING, START, FIRST_WORD = 0, 1, 2  # tokens; START begins every prompt, the empty one too
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")  # letters and digits: T-shirt is two words, colt's one
# An article goes by the sound: eight, eleven, hour; but one, unicorn, European.
# So do letters: an F, a U.
VOWEL = re.compile(
    r"(?i)(?!one\b|once\b|uni(?![ndm])|use|eu|uk|u\b)[aeiou]"
    r"|[fhlmnrsx]\b|8|11\b|18\b|hour|heir|honest"
)


def words_of(text):
    """Returns the words of a text, in lower case; all else is left out."""
    return WORD.findall(unicodedata.normalize("NFC", text).lower())  # macOS names files in NFD


def filled(template, name):
    """Returns the prompt that a template makes of a class name."""
    name = re.sub(r"[\s_]+", " ", name).strip()
    return template.format(name=name, a="an" if VOWEL.match(name) else "a")


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What can be said to a model: the prompts of its classes, and all words in them.

    Args:
        class_names: names of the classes, in the order of the labels.
        templates: texts with "{name}" and, where its article is to stand, "{a}".

    Attributes:
        words: tuple of the known words; word i is token i + 2.
        plain: tuple of the plain prompts, one for each class.
        length: tokens of a prompt, L.
        table: int32 (num_classes + 1, number of templates, L), the tokens of every prompt; the
            last class is none: its prompts are empty, and the null of guidance.

    Raises:
        ValueError: no classes; a name without words; two that read the same; a template without
            a name.
    """

    class_names: tuple
    templates: tuple = TEMPLATES

    def __post_init__(self):
        for name in ("class_names", "templates"):  # lists, as they come from files
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.class_names or not self.templates:
            raise ValueError("prompts: are made of class names and templates; there are none.")
        for template in self.templates:
            if "{name}" not in template:
                raise ValueError(f"prompts: the template {template!r} has no {{name}}.")
            try:
                filled(template, "name")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(
                    f"prompts: the template {template!r} may have {{name}} and {{a}} alone."
                ) from error
        named = {}
        for name in self.class_names:
            words = tuple(words_of(name))
            if not words:
                raise ValueError(f"prompts: the class name {name!r} has no words.")
            if words in named:
                raise ValueError(
                    f"prompts: the class names {named[words]!r} and {name!r} have the same words."
                )
            named[words] = name

    @property
    def num_classes(self):
        """int."""
        return len(self.class_names)

    @property
    def num_tokens(self):
        """int: padding, the start and all words."""
        return FIRST_WORD + len(self.words)

    @functools.cached_property
    def words(self):
        return tuple(sorted({word for text in self._texts for word in words_of(text)}))

    @functools.cached_property
    def plain(self):
        return tuple(filled(self.templates[0], name) for name in self.class_names)

    @functools.cached_property
    def length(self):
        return 1 + max(len(words_of(text)) for text in self._texts)

    @functools.cached_property
    def table(self):
        tokens = self.tokens([*self._texts, *([""] * len(self.templates))])
        return tokens.reshape(-1, len(self.templates), self.length)

    @functools.cached_property
    def _texts(self):
        return [filled(template, n) for n in self.class_names for template in self.templates]

    def tokens(self, texts):
        """Returns what a model reads of texts: int32 (len(texts), L), padded.

        Raises:
            ValueError: words that it does not know, with the nearest that it does; too many.
        """
        known = {word: token for token, word in enumerate(self.words, FIRST_WORD)}
        rows = np.full((len(texts), self.length), PADDING, "int32")
        for row, text in zip(rows, texts, strict=True):
            words = words_of(text)
            if text.strip() and not words:
                raise ValueError(f"{text!r} has no words.")
            if unknown := [word for word in dict.fromkeys(words) if word not in known]:
                raise ValueError(f"{text!r} has {self._explained(unknown)}.")
            if len(words) >= self.length:
                most = self.length - 1
                raise ValueError(f"{text!r} has {len(words)} words; the model reads {most}.")
            row[: len(words) + 1] = [START, *(known[word] for word in words)]
        return rows

    def _explained(self, unknown):
        """Says which words are unknown, and which known ones are near."""
        parts = []
        for word in unknown:
            near = difflib.get_close_matches(word, self.words)
            near = near or difflib.get_close_matches(word, self.words, n=1, cutoff=0)
            parts.append(f"{word!r} (nearest: {', '.join(near)})")
        return f"unknown word{'s' * (len(parts) > 1)} {', '.join(parts)}"

    def get_config(self):
        """Returns what makes the same prompts again, as JSON allows."""
        return {"class_names": list(self.class_names), "templates": list(self.templates)}
