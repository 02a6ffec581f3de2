"""Prompts: texts from class names and templates, and their tokens."""

import dataclasses
import difflib
import functools
import re
import unicodedata

import numpy as np

# The first template makes the plain prompt of a class.
TEMPLATES = (
    "a photo of {a} {name}",
    "a picture of {a} {name}",
    "an image of {a} {name}",
    "{a} {name}",
    "{name}",
)
PADDING, START, FIRST_WORD = 0, 1, 2  # tokens; START is the first token of every prompt
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")  # "T-shirt" is two words, "colt's" is one
# "an" is chosen by sound: eight, eleven, hour, F; but "a" one, unicorn, European, U.
VOWEL = re.compile(
    r"(?i)(?!one\b|once\b|uni(?![ndm])|use|eu|uk|u\b)[aeiou]"
    r"|[fhlmnrsx]\b|8|11\b|18\b|hour|heir|honest"
)


def split_words(text):
    """Returns the words of a text in lower case, without punctuation."""
    return WORD.findall(unicodedata.normalize("NFC", text).lower())  # macOS file names are NFD


def fill_template(template, name):
    """Returns the prompt of a template and a class name."""
    name = re.sub(r"[\s_]+", " ", name).strip()
    return template.format(name=name, a="an" if VOWEL.match(name) else "a")


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Vocabulary and prompts of a model, from class names and templates.

    Args:
        class_names: names of the classes in the order of the labels.
        templates: texts with "{name}" and, for its article, optionally "{a}".

    Attributes:
        words: tuple of the words in all prompts; word i is token i + 2.
        plain: tuple of the plain prompts (first template), one per class.
        length: tokens per prompt, L.
        table: int32 (num_classes + 1, number of templates, L), tokens of all prompts. The last row
            is the empty prompt, the null condition of guidance.

    Raises:
        ValueError: no class names or templates; a name without words; two names with the same
            words; a template without "{name}" or with unknown fields.
    """

    class_names: tuple
    templates: tuple = TEMPLATES

    def __post_init__(self):
        for name in ("class_names", "templates"):  # JSON files give lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.class_names or not self.templates:
            raise ValueError("prompts: needs at least one class name and one template.")
        for template in self.templates:
            if "{name}" not in template:
                raise ValueError(f"prompts: the template {template!r} has no {{name}}.")
            try:
                fill_template(template, "name")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(
                    f"prompts: the template {template!r} has a field other than {{name}} and {{a}}."
                ) from error
        name_of = {}
        for name in self.class_names:
            words = tuple(split_words(name))
            if not words:
                raise ValueError(f"prompts: the class name {name!r} has no words.")
            if words in name_of:
                raise ValueError(
                    f"prompts: the class names {name_of[words]!r} and {name!r} have the same words."
                )
            name_of[words] = name

    @property
    def num_classes(self):
        """Number of classes."""
        return len(self.class_names)

    @property
    def num_tokens(self):
        """Number of tokens: padding, START and the words."""
        return FIRST_WORD + len(self.words)

    @functools.cached_property
    def words(self):
        return tuple(sorted({word for text in self._texts for word in split_words(text)}))

    @functools.cached_property
    def plain(self):
        return tuple(fill_template(self.templates[0], name) for name in self.class_names)

    @functools.cached_property
    def length(self):
        return 1 + max(len(split_words(text)) for text in self._texts)

    @functools.cached_property
    def table(self):
        tokens = self.tokens([*self._texts, *([""] * len(self.templates))])
        return tokens.reshape(-1, len(self.templates), self.length)

    @functools.cached_property
    def _texts(self):
        return [fill_template(template, n) for n in self.class_names for template in self.templates]

    def tokens(self, texts):
        """Returns the tokens of texts, int32 (len(texts), L), padded.

        Raises:
            ValueError: unknown words (the message names the nearest known ones); too many words.
        """
        known = {word: token for token, word in enumerate(self.words, FIRST_WORD)}
        rows = np.full((len(texts), self.length), PADDING, "int32")
        for row, text in zip(rows, texts, strict=True):
            words = split_words(text)
            if text.strip() and not words:
                raise ValueError(f"{text!r} has no words.")
            if unknown := [word for word in dict.fromkeys(words) if word not in known]:
                raise ValueError(f"{text!r} has {self._describe(unknown)}.")
            if len(words) >= self.length:
                most = self.length - 1
                raise ValueError(f"{text!r} has {len(words)} words; the model reads {most}.")
            row[: len(words) + 1] = [START, *(known[word] for word in words)]
        return rows

    def _describe(self, unknown):
        """Returns a text with each unknown word and the known words nearest to it."""
        parts = []
        for word in unknown:
            near = difflib.get_close_matches(word, self.words)
            near = near or difflib.get_close_matches(word, self.words, n=1, cutoff=0)
            parts.append(f"{word!r} (nearest: {', '.join(near)})")
        return f"unknown word{'s' * (len(parts) > 1)} {', '.join(parts)}"

    def get_config(self):
        """Returns the constructor's arguments for JSON files."""
        return {"class_names": list(self.class_names), "templates": list(self.templates)}
