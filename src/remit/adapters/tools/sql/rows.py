"""What the rows of any database have in common."""

from __future__ import annotations


def unique(names: list[str]) -> list[str]:
    """`names`, where each repetition gets a number, so that no value hides another."""
    taken: set[str] = set()
    unique: list[str] = []
    for name in names:
        short = name[:120]
        candidate, number = short, 2
        while candidate in taken:
            candidate, number = f"{short}_{number}", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return unique
