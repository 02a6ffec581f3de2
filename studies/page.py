"""The page of a study: README.md, made of what results.json holds. No figure is typed in."""

import dataclasses
import re
from pathlib import Path

from keras_diffusion.runtime.files import whole_file

CHANCE = 2.0  # standard deviations: distances that differ by less are not told apart
VERDICTS = {True: "**holds**", False: "**does not hold**", None: "not decided"}
SHOWN_VERSIONS = ("tensorflow", "keras", "numpy")


@dataclasses.dataclass(frozen=True)
class Claim:
    """Something that was said, and whether it holds for what was measured.

    Attributes:
        text: what was said.
        measured: the figures that decide it.
        holds: bool, decided by code; None: they do not decide it, `measured` says why.
    """

    text: str
    measured: str
    holds: bool | None


def lower(text, scores, equal=None, reason=None):
    """Returns a claim that the first distance is lower than the second.

    Args:
        text: of the claim.
        scores: {name: dict of `distance` and its `error`, a standard deviation}; the first two
            are compared, others are listed.
        equal: the verdict on distances that differ by less than chance.
        reason: None, or why they cannot be told apart at all.
    """
    first, second, *_ = scores.values()
    gap = second["distance"] - first["distance"]
    chance = CHANCE * (first["error"] ** 2 + second["error"] ** 2) ** 0.5
    listed = ", ".join(f"{name} {number(score['distance'])}" for name, score in scores.items())
    if reason:
        return Claim(text, f"distance: {listed}; {reason}", None)
    measured = f"distance: {listed}; {number(chance, 2)} is chance"
    return Claim(text, measured, equal if abs(gap) <= chance else gap > 0)


def table(header, rows):
    """Returns a table in markdown; cells are text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def claims_table(claims):
    """Returns what holds and what does not, as a table."""
    rows = [[claim.text, claim.measured, VERDICTS[claim.holds]] for claim in claims]
    return table(["claim", "measured", "verdict"], rows)


def picture(file, caption):
    """Returns a figure of the study's folder, with its caption below."""
    return f"![{caption}]({file})\n\n*{caption}*"


def number(value, digits=3):
    """Returns a number with so many digits that count: 0.0123, 1.23, 123, 12,300."""
    if value is None:
        return "-"
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def write(folder, study, record, parts, claims):
    """Writes README.md.

    Args:
        folder: of results.json and the figures.
        study: its module, for TITLE and QUESTION.
        record: what results.json holds.
        parts: list of markdown, what the study reports.
        claims: list of `Claim`.

    Raises:
        ValueError: the page shows a figure that is not there.
    """
    text = "\n\n".join(
        [
            f"# {study.TITLE}",
            study.QUESTION,
            f"    {record['command']}",
            *_warning(record),
            "## What holds",
            claims_table(claims),
            *parts,
            "## How it was measured",
            measured_on(record),
        ]
    )
    for file in re.findall(r"\]\(([^)/]+\.(?:png|gif))\)", text):
        if not (Path(folder) / file).exists():
            raise ValueError(
                f"{Path(folder) / file} is not there, and neither is what it is drawn from; "
                "run the study again without --report."
            )
    with whole_file(Path(folder) / "README.md") as part:
        Path(part).write_text(text + "\n", encoding="utf-8")


def measured_on(record):
    """Returns on what, with what and when the figures were measured, as a list."""
    machine = record["machine"]
    cores = machine["cores"]
    parts = [machine["cpu"], f"{cores} core{'' if cores == 1 else 's'}"]
    if machine["memory_gib"]:
        parts.append(f"{machine['memory_gib']} GiB")
    parts += [machine["system"], *record["accelerators"]]
    versions = {name: machine["versions"].get(name) for name in SHOWN_VERSIONS}
    shown = [f"{name} {version}" for name, version in versions.items() if version]
    revision = machine["git_revision"] or "unknown"
    return "\n".join(
        [
            f"- Machine: {', '.join(parts)}.",
            f"- Versions: Python {machine['python']}, {', '.join(shown)}.",
            f"- {machine['date']}, revision {revision}, {record['seconds'] / 60:.0f} minutes of "
            "work in all.",
            *map(_elsewhere, record.get("elsewhere", [])),
            "- Every figure is in `results.json`; `--report` makes this page from it again.",
        ]
    )


def _elsewhere(found):
    made, count = found["made"], len(found["stages"])
    return (
        f"- But {count} {'stage' if count == 1 else 'stages'} kept from before, by revision "
        f"{made.get('git_revision') or 'unknown'} on {made.get('cpu', 'an unknown machine')}; "
        "`results.json` has their names under `elsewhere`."
    )


def _warning(record):
    tiny = "**A toy run (`--tiny`), to see that all of it works: its figures mean nothing.**"
    return [tiny] if record["tiny"] else []
