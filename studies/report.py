"""Claims and their verdicts, and README.md of a study, generated from results.json."""

import dataclasses
import functools
import re
import string
from pathlib import Path

from keras_diffusion.runtime import console
from keras_diffusion.runtime.console import number
from keras_diffusion.runtime.files import whole_file

CHANCE = 2.0  # standard errors: smaller differences of distances are attributed to chance
VERDICTS = {True: "**holds**", False: "**does not hold**", None: "not decided"}
FIGURE = re.compile(r"^!\[(.*)\]\((.*)\)$", re.MULTILINE)  # caption, file
SHOWN_VERSIONS = ("tensorflow", "keras", "numpy")

table = functools.partial(console.table, markdown=True)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement, and whether it holds for what was measured.

    Attributes:
        text: the statement.
        measured: the numbers that decide it.
        holds: bool, decided by code; None: not decided, `measured` says why.
    """

    text: str
    measured: str
    holds: bool | None


def lower_distance(text, scores, equal=None, reason=None):
    """Returns the claim that the first distance is lower than the second.

    Args:
        text: of the claim.
        scores: {name: dict of `distance` and its standard error `error`}; the first two are
            compared, the others only shown.
        equal: the verdict if the distances differ by no more than chance.
        reason: None, or why the distances cannot be compared at all.
    """
    first, second, *_ = scores.values()
    gap = second["distance"] - first["distance"]
    chance = CHANCE * (first["error"] ** 2 + second["error"] ** 2) ** 0.5
    shown = numbers({name: score["distance"] for name, score in scores.items()})
    if reason:
        return Claim(text, f"distance: {shown}; {reason}", None)
    measured = f"distance: {shown}; by chance up to {number(chance, 2)}"
    return Claim(text, measured, equal if abs(gap) <= chance else gap > 0)


def numbers(values):
    """Formats a dict {name: number} as "name number, name number"."""
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def distance(score):
    """Formats the distance of a score with its standard error."""
    return f"{number(score['distance'])} ± {number(score['error'], 2)}"


class PageFormatter(string.Formatter):
    """`str.format` with the conversion `!n`, which formats a number with three digits."""

    def convert_field(self, value, conversion):
        return number(value) if conversion == "n" else super().convert_field(value, conversion)


def page(template, record, claims, values):
    """Returns README.md of a study.

    Args:
        template: content of the study's page.md. It has placeholders for results and values, and
            a caption is repeated below each figure.
        record: content of results.json.
        claims: list of `Claim`.
        values: dict, from the study's `values`.
    """
    command = f"    {record['command']}"
    if record["tiny"]:
        command += "\n\n**A toy run (`--tiny`), to test the code: its numbers mean nothing.**"
    rows = [[claim.text, claim.measured, VERDICTS[claim.holds]] for claim in claims]
    shared = {
        "command": command,
        "claims": table(["claim", "measured", "verdict"], rows),
        "provenance": _provenance(record),
    }
    text = PageFormatter().format(template, **{**record["results"], **values, **shared})
    return FIGURE.sub(r"\g<0>\n\n*\1*", text)


def write(folder, text):
    """Writes README.md.

    Raises:
        ValueError: the page shows a figure that does not exist.
    """
    for _, file in FIGURE.findall(text):
        if not (Path(folder) / file).exists():
            raise ValueError(
                f"{Path(folder) / file} does not exist, and neither does the data to plot it; "
                "run the study again without --report."
            )
    with whole_file(Path(folder) / "README.md") as part:
        Path(part).write_text(text, encoding="utf-8")


def _provenance(record):
    """Lists the machine, the versions and the date of a record."""
    machine = record["machine"]
    cores, memory = machine["cores"], machine["memory_gib"]
    parts = [machine["cpu"], f"{cores} core{'' if cores == 1 else 's'}"]
    parts += [f"{memory} GiB"] if memory else []
    parts += [machine["system"], *record["accelerators"]]
    versions = {name: machine["versions"].get(name) for name in SHOWN_VERSIONS}
    shown = [f"{name} {version}" for name, version in versions.items() if version]
    lines = [
        f"- Machine: {', '.join(parts)}.",
        f"- Versions: Python {machine['python']}, {', '.join(shown)}.",
        f"- {machine['date']}, revision {machine['git_revision'] or 'unknown'}, "
        f"{record['seconds'] / 60:.0f} minutes of computation in total.",
    ]
    for group in record.get("elsewhere", []):
        origin, count = group["made"], len(group["stages"])
        lines.append(
            f"- {count} {'stage was' if count == 1 else 'stages were'} cached from revision "
            f"{origin.get('git_revision') or 'unknown'} on {origin.get('cpu', 'unknown hardware')};"
            " `results.json` lists them under `elsewhere`."
        )
    lines.append("- All numbers are in `results.json`; `--report` generates this page from it.")
    return "\n".join(lines)
