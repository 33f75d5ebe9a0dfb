"""The closest name to one that a user typed."""

import difflib
import re
from collections.abc import Iterable, Sequence


def closest(given: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the choice that is most similar to a name; None if no similarity reaches the cutoff.

    Among equally similar choices, the one with the closest length is returned, and then the first one.
    """
    scores = {
        choice: (round(similarity(given, choice), 3), -abs(len(choice) - len(given))) for choice in choices
    }
    best = max(scores, key=lambda choice: scores[choice], default=None)
    return best if best is not None and scores[best][0] >= cutoff else None


def similarity(given: str, choice: str) -> float:
    """Return the similarity of two names in 0..1.

    Misspelt words count as in difflib. Words that are missing at the end, as in `vit` for `vit_base_patch16`,
    and letters that are left out, as in `vitb16`, count little. Words that are missing at the start
    count more.
    """
    given, choice = (re.sub(r"[\s\-]+", "_", name.strip().lower()) for name in (given, choice))
    if given == choice:
        return 1.0
    words, others = (re.split(r"[_./]", name) for name in (given, choice))
    found = [max(_word_similarity(word, other) for other in others) for word in words]
    starts = _word_similarity(words[0], others[0]) == found[0]
    by_word = sum(found) / len(found) - 0.03 * max(len(others) - len(words), 0) - (0.01 if starts else 0.15)
    parts = [part for word in others for part in re.findall(r"[^\d]+|\d+", word)]
    is_short = len(given) > 3 and _is_abbreviation(re.sub("[_./]", "", given), parts)
    return max(_ratio(given, choice), by_word, 0.95 if is_short else 0.0)


def _word_similarity(given: str, choice: str) -> float:
    return 0.9 if given and given != choice and choice.startswith(given) else _ratio(given, choice)


def _ratio(first: str, second: str) -> float:
    return difflib.SequenceMatcher(None, first, second).ratio()


def _is_abbreviation(given: str, words: Sequence[str]) -> bool:
    """Return whether a name consists of beginnings of some of the words, in their order."""
    if not given or not words:
        return not given
    lengths = range(min(len(given), len(words[0])), -1, -1)
    return any(given[:n] == words[0][:n] and _is_abbreviation(given[n:], words[1:]) for n in lengths)
