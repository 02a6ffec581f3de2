"""Lookup of named objects with one kind of error message."""


def lookup(table, name, kind):
    """Returns `table[name]`.

    Args:
        table: dict from names to values.
        name: key, usually from the user.
        kind: kind of the values for the error message, such as "sampler".

    Raises:
        ValueError: `unknown sampler 'dpm'. Choose from: ddim, ddpm, ...`
    """
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}. Choose from: {', '.join(sorted(table))}.")
    return table[name]
