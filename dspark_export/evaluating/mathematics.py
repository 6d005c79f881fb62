r"""MATH's final answers: what \boxed{} holds, and when two spellings are one answer.

The rules are those of the benchmark (Hendrycks et al. 2021, math_equivalence.py): LaTeX that changes nothing is
dropped, units and dollar signs too, short fractions are written out. Equal numbers are equal as well.
"""

from __future__ import annotations

import re
from decimal import Decimal

BOXED = re.compile(r"\\(?:boxed|fbox)\s*")
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?", re.A)
PLAIN = [
    (r"\\[!,;: ]|\\left|\\right|\\displaystyle|\n", ""),
    (r"\\[tdc]frac", r"\\frac"),
    (r"\^\s*\{?\\circ\}?", ""),
    (r"\\?\$|\\?%", ""),
    (r"\\(?:text|mbox|mathrm)\{\s+[^{}]*\}\s*$", ""),  # a unit: it begins with a space
    (r"\\(?:text|mbox|mathrm|mathbf|textbf)\{([^{}]*)\}", r"\1"),
    (r"(\d)\{?,\}?(?=\d{3}(?!\d))", r"\1"),
    (r"(?<!\d)\.(?=\d)", "0."),
    (r"\s", ""),
    (r"\.$", ""),
    (r"^[A-Za-z]{1,2}=(?=[^=]+$)", ""),
    (r"\\sqrt([^{\[\\])", r"\\sqrt{\1}"),
    (r"\\frac([^{\\])", r"\\frac{\1}"),
    (r"(\\frac\{[^{}]*\})([^{\\])", r"\1{\2}"),
    (r"^(-?)(\d+)/(\d+)$", r"\1\\frac{\2}{\3}"),
    (r"^(-?)0\.50*$", r"\1\\frac{1}{2}"),
]
RULES = [(re.compile(pattern), replacement) for pattern, replacement in PLAIN]


def boxed(text: str) -> str | None:
    r"""What the last \boxed{…} (or \fbox{…}, or \boxed followed by one word) holds; None where there is none."""
    found = list(BOXED.finditer(text))
    if not found:
        return None
    rest = text[found[-1].end() :]
    if not rest.startswith("{"):
        return re.split(r"[\s$]", rest, maxsplit=1)[0] or None
    depth = 0
    for end, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if not depth:
            return rest[1:end]
    return None  # the text ended inside


def normalise_math(text: str) -> str:
    """One spelling for answers that the benchmark holds to be the same."""
    for pattern, replacement in RULES:
        text = pattern.sub(replacement, text)
    return f"{Decimal(text).normalize():f}" if NUMBER.fullmatch(text) else text
