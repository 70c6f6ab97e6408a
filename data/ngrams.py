r"""Compares texts by their n-grams: decontamination of training data, and similarity to validation items.

Tokens are what two writings of one problem have in common: words in lower case, a number as ONE token (1,000 is 1000),
operators (3+2 is not 3-2), each Chinese or Japanese character; other punctuation and spacing do not count.

Three rules decide, and each has its reason:

1. **Equal token sequences always match**, whatever their length. For a text of fewer than n tokens this is the only
   rule, because a short n-gram ("what is the") says nothing.
2. **A shared n-gram matches**, unless it is template text. n = 13 is the window of GPT-3's decontamination
   (arXiv 2005.14165, appendix C), which Qwen2.5's report also uses (arXiv 2412.15115).
3. **Template text does not count.** Generated prompts share "Put the final answer in \boxed{}" and differ in their
   numbers alone. An n-gram is a template if its skeleton (every number masked) is in more than a set share of the
   reference texts, or of one group of them: a benchmark's wording must not become evidence because other benchmarks
   stand beside it. It still counts if it holds four or more different numbers, as those identify a problem.
   A departure from both reports, whose data is not generated.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from data.records import UserError

Gram = tuple[str, ...]

NUM_IDENTIFYING_NUMBERS = 4
"""So many different numbers in one n-gram identify a problem even inside a template; a grid of 0 and 1 has two."""
MIN_TEMPLATE_TEXTS = 3
"""An n-gram of fewer reference texts is no template: in a set of two, every n-gram is in half of the texts."""

_TOKEN = re.compile(
    r"(?P<thousands>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?)"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<character>[぀-ヿ㐀-䶿一-鿿豈-﫿])"
    r"|(?P<word>[^\W\d_぀-ヿ㐀-䶿一-鿿豈-﫿]+)"
    r"|(?P<operator>[-+*/^=<>×÷≤≥≠%|&~]|(?<=[\d)])!)"
)
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")


class ContaminationError(UserError):
    """Training text holds evaluation text; the message names the first pairs."""


def tokens(text: str) -> Gram:
    """The comparison tokens of a text, see the module docstring; `well-known` is two words, `x-y` a subtraction.

    A text of punctuation alone is one token, so that only a blank text has none.
    """
    text = _HYPHEN.sub(" ", unicodedata.normalize("NFKC", text).casefold().replace("−", "-"))
    found = tuple(
        match[0].replace(",", "") if match.lastgroup == "thousands" else match[0] for match in _TOKEN.finditer(text)
    )
    return found or tuple([" ".join(text.split())] if text.strip() else [])


def ngrams(sequence: Sequence[str], n: int) -> Iterator[Gram]:
    """All windows of n tokens in order; none if there are fewer than n."""
    return (tuple(sequence[start : start + n]) for start in range(len(sequence) - n + 1))


def repetition_share(text: str, n: int) -> float:
    """rep_n = 1 - |distinct n-grams| / |n-grams| over the tokens of `text`, in [0, 1); 0 for a text without n-grams.

    Source: seq-rep-n, arXiv 1908.04319, section 4. A loop of period p over T tokens gives about 1 - p/T.
    """
    grams = list(ngrams(tokens(text), n))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """A reference text that was found in another text: its position among the references, and what they share."""

    index: int
    shared: str
    exact: bool


def _skeleton(gram: Gram) -> Gram:
    return tuple("#" if token[0].isdecimal() else token for token in gram)


def _num_numbers(gram: Gram) -> int:
    return len({token for token in gram if token[0].isdecimal()})


def _templates(sequences: Sequence[Gram], n: int, share: float) -> set[Gram]:
    """The skeletons that more than a share of the sequences hold."""
    in_texts = Counter(
        skeleton for sequence in sequences for skeleton in {_skeleton(gram) for gram in ngrams(sequence, n)}
    )
    most = max(share * len(sequences), MIN_TEMPLATE_TEXTS - 1)
    return {skeleton for skeleton, num_texts in in_texts.items() if num_texts > most}


class NgramIndex:
    """The informative n-grams of reference texts, for asking what another text shares with them.

    `ignore` holds boilerplate texts whose n-grams never count. Repeated reference texts count once when templates are
    looked for, which is done in each group of texts apart: `groups` has a name for each text, all are one without it.
    Raises `ValueError` for n < 1, a share outside (0, 1], or another number of names than of texts.
    """

    def __init__(
        self,
        texts: Iterable[str],
        n: int,
        *,
        ignore: Iterable[str] = (),
        template_share: float = 0.05,
        groups: Iterable[str] | None = None,
    ) -> None:
        if n < 1 or not 0 < template_share <= 1:
            raise ValueError(f"n-gram index: need n >= 1 and 0 < template_share <= 1, got n={n}, {template_share=}")
        self.n = n
        texts = list(texts)
        names = [""] * len(texts) if groups is None else list(groups)
        if len(names) != len(texts):
            raise ValueError(f"n-gram index: {len(names)} group names for {len(texts)} texts")
        self._exact: dict[Gram, int] = {}
        sequences: dict[str, list[Gram]] = {}
        for index, (text, name) in enumerate(zip(texts, names, strict=True)):
            sequence = tokens(text)
            if sequence and sequence not in self._exact:
                self._exact[sequence] = index
                sequences.setdefault(name, []).append(sequence)
        self._templates = {
            skeleton for group in sequences.values() for skeleton in _templates(group, n, template_share)
        }
        self._ignored = {gram for text in ignore for gram in ngrams(tokens(text), n)}
        self._holders: dict[Gram, list[int]] = {}
        self._num_grams: dict[int, int] = {}
        for sequence, index in self._exact.items():
            grams = self.informative(sequence)
            self._num_grams[index] = len(grams)
            for gram in grams:
                self._holders.setdefault(gram, []).append(index)

    def informative(self, sequence: Gram) -> dict[Gram, None]:
        """The distinct n-grams that count as evidence, in order."""
        return {
            gram: None
            for gram in ngrams(sequence, self.n)
            if gram not in self._ignored
            and (_num_numbers(gram) >= NUM_IDENTIFYING_NUMBERS or _skeleton(gram) not in self._templates)
        }

    def shared_grams(self, text: str) -> list[Gram]:
        """The distinct informative n-grams of `text` that are in a reference text, in order."""
        return [gram for gram in self.informative(tokens(text)) if gram in self._holders]

    def exact(self, text: str) -> int | None:
        """The reference text with the same tokens as `text`, if there is one; a text without tokens equals none."""
        return self._exact.get(tokens(text))

    def holder(self, gram: Gram) -> int:
        """The first reference text that holds `gram`."""
        return self._holders[gram][0]

    def similarity(self, text: str) -> tuple[float, float]:
        """The largest Jaccard index and the largest containment over all reference texts, each in [0, 1].

        For the informative n-gram sets A of `text` and R of a reference: Jaccard |A∩R| / |A∪R|, and containment
        |A∩R| / |R|, the part of the reference that can be read in the text. Equal token sequences give (1, 1).
        """
        if self.exact(text) is not None:
            return 1.0, 1.0
        grams = self.informative(tokens(text))
        num_shared = Counter(index for gram in grams for index in self._holders.get(gram, ()))
        jaccard = [shared / (len(grams) + self._num_grams[index] - shared) for index, shared in num_shared.items()]
        containment = [shared / self._num_grams[index] for index, shared in num_shared.items()]
        return max(jaccard, default=0.0), max(containment, default=0.0)


class Decontaminator:
    """Says whether a training text holds evaluation text, by the three rules of the module docstring.

    `min_informative` is how many distinct informative n-grams must be shared before a text that is not an exact match
    counts as contaminated; one is the strictest and the default.
    """

    def __init__(
        self,
        eval_texts: Iterable[str],
        n: int = 13,
        *,
        ignore: Iterable[str] = (),
        template_share: float = 0.05,
        groups: Iterable[str] | None = None,
        min_informative: int = 1,
    ) -> None:
        if min_informative < 1:
            raise ValueError(f"decontaminator: min_informative must be at least 1, got {min_informative}")
        self._index = NgramIndex(eval_texts, n, ignore=ignore, template_share=template_share, groups=groups)
        self._min_informative = min_informative

    def match(self, text: str) -> Match | None:
        """The evaluation text that makes `text` contaminated, with what they share; None if `text` is clean."""
        exact = self._index.exact(text)
        if exact is not None:
            return Match(exact, " ".join(tokens(text)), True)
        shared = self._index.shared_grams(text)
        if len(shared) < self._min_informative:
            return None
        return Match(self._index.holder(shared[0]), " ".join(shared[0]), False)

    def contaminated(self, text: str) -> bool:
        """Whether `text` must not be trained on."""
        return self.match(text) is not None

    def overlap(self, text: str) -> float:
        """The share of the informative n-grams of `text` that evaluation texts hold; 1 for an exact match."""
        if self._index.exact(text) is not None:
            return 1.0
        grams = self._index.informative(tokens(text))
        return len(self._index.shared_grams(text)) / len(grams) if grams else 0.0


def assert_clean(
    train_texts: Sequence[str],
    eval_texts: Sequence[str],
    n: int = 13,
    *,
    ignore: Iterable[str] = (),
    template_share: float = 0.05,
    min_informative: int = 1,
    num_named: int = 3,
) -> None:
    """The gate before training: raises `ContaminationError` naming the first `num_named` pairs if any text is dirty."""
    decontaminator = Decontaminator(
        eval_texts, n, ignore=ignore, template_share=template_share, min_informative=min_informative
    )
    matches = [(index, match) for index, text in enumerate(train_texts) if (match := decontaminator.match(text))]
    if matches:
        pairs = "; ".join(
            f"train[{index}] {'equals' if match.exact else 'shares with'} eval[{match.index}]: {match.shared[:80]!r}"
            for index, match in matches[:num_named]
        )
        raise ContaminationError(
            f"decontamination: {len(matches)} of {len(train_texts)} training texts hold evaluation text "
            f"({pairs}); drop them with data.filters.decontaminate"
        )
