"""What is shown and what is not, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dspark_calibration.report import Measured
from dspark_export.evaluating.schema import Identity, Pair, WayFigures
from dspark_export.evaluating.ways import PLAIN, Mode

LEAST_PROMPTS = 5
"""Resampling fewer says nothing about prompts that were not seen."""
FEW_PROMPTS = 20


def is_shown(difference: Measured | None, prompts: int) -> bool:
    """Whether a difference is told from 0 by so many prompts."""
    return difference is not None and prompts >= LEAST_PROMPTS and (difference.low > 0 or difference.high < 0)


def is_speed_shown(ratio: Measured | None, prompts: int, control: Measured | None) -> bool:
    """Whether a ratio is told from 1: its whole interval is further from 1 than plain decoding against itself."""
    if ratio is None or prompts < LEAST_PROMPTS or ratio.low <= 1 <= ratio.high:
        return False
    nearest = min(abs(math.log(ratio.low)), abs(math.log(ratio.high)))
    return control is None or nearest > abs(math.log(control.value))


def length_finding(first: str, second: str, difference: Measured | None, prompts: int) -> str:
    """Two drafters' accepted lengths."""
    if difference is None:
        return f"nothing is known about tokens a round of {first} and {second}: there were no rounds"
    if prompts < LEAST_PROMPTS:
        return f"tokens a round of {first} and {second} are not compared: {_too_few(prompts)}"
    if not is_shown(difference, prompts):
        return (
            f"tokens a round of {first} and {second} are not told apart by these {prompts} prompts "
            f"(a difference of {difference.value:+.2f}, 95% interval {difference.low:+.2f} to {difference.high:+.2f})"
        )
    more, low, high = difference.value, difference.low, difference.high
    if more < 0:
        first, second, more, low, high = second, first, -more, -high, -low
    return f"{first} accepts {more:.2f} more tokens a round than {second} ({_interval(low, high, prompts)})"


def speed_finding(first: str, second: str, ratio: Measured | None, prompts: int, control: Measured | None) -> str:
    """Two ways' tokens/s; `second` may be plain decoding."""
    second = "plain decoding" if second == PLAIN else second
    if ratio is None:
        return f"nothing is known about tokens/s of {first} and {second}: no output had a second token"
    if prompts < LEAST_PROMPTS:
        return f"tokens/s of {first} and {second} are not compared: {_too_few(prompts)}"
    if not is_speed_shown(ratio, prompts, control):
        return (
            f"tokens/s of {first} and {second} are not told apart by these {prompts} prompts "
            f"({ratio.value:.2f} times, 95% interval {ratio.low:.2f} to {ratio.high:.2f})"
        )
    if ratio.value < 1:
        return f"{first} is slower than {second}: {ratio.value:.2f} times its tokens/s ({_span(ratio, prompts)})"
    return f"{first} has {ratio.value:.2f} times the tokens/s of {second} ({_span(ratio, prompts)})"


def identity_finding(drafters: Sequence[WayFigures]) -> str:
    """How many greedy outputs are plain decoding's, of all drafters together."""
    found = [(way.way, way.identity) for way in drafters if way.identity is not None]
    wrong = [f"{name} ({_count(identity)})" for name, identity in found if not identity.passed]
    if wrong:
        return f"GREEDY OUTPUT DIFFERS from plain decoding: {', '.join(wrong)} identical, which is a bug"
    prompts, ties = found[0][1].prompts, sum(identity.ties for _, identity in found)
    if not ties:
        return f"greedy output is that of plain decoding in {prompts} of {prompts} prompts, with every drafter"
    tied = ", ".join(f"{name} {_count(identity)} identical" for name, identity in found if identity.ties)
    return f"greedy output is that of plain decoding but for ties of the target's two best tokens: {tied}"


def verdict(mode: Mode, drafters: Sequence[WayFigures], pairs: Sequence[Pair], against_plain: Sequence[str]) -> str:
    """The sentence: the fastest drafter against plain decoding, against each other drafter, and the output."""
    best = max(drafters, key=lambda way: way.overall.ratio.mean.value if way.overall.ratio else 0.0)
    speeds = dict(zip((way.way for way in drafters), against_plain, strict=False))
    found = [speeds[best.way]]
    for pair in pairs:
        if best.way in (pair.first, pair.second):
            found += pair.findings
    found += against_plain[len(drafters) :]
    return f"{mode.capitalize()}: {'; '.join(found)}."


def _count(identity: Identity) -> str:
    return f"{identity.identical} of {identity.prompts}"


def _too_few(prompts: int) -> str:
    return f"{prompts} prompt{'' if prompts == 1 else 's'} can tell nothing apart, take at least {LEAST_PROMPTS}"


def _span(measured: Measured, prompts: int) -> str:
    return _interval(measured.low, measured.high, prompts)


def _interval(low: float, high: float, prompts: int) -> str:
    return f"95% interval {low:.2f} to {high:.2f}, {prompts} prompts"
