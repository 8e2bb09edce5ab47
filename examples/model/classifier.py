"""A toy model: tells kind words from unkind ones, by counting both. Pure Python, a file, no weights.

It stands for what a pipeline downloads and tests; see ``suite.json`` beside it.
"""

KIND = frozenset("good great kind lovely nice please thank thanks welcome wonderful".split())
UNKIND = frozenset("awful bad dumb hate horrible nasty stupid terrible ugly worst".split())


def classify(text):
    """``kind``, ``unkind`` or ``neutral``, and how sure it is, from 0 to 1."""
    words = [word.strip(".,!?;:").lower() for word in text.split()]
    score = sum(word in KIND for word in words) - sum(word in UNKIND for word in words)
    sure = min(1.0, abs(score) / 3)
    if score == 0:
        return "neutral", sure
    return ("kind" if score > 0 else "unkind"), sure
