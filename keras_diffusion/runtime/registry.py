"""One way to turn a name into a thing, with one kind of error."""


def lookup(table, name, kind):
    """Returns `table[name]`.

    Args:
        table: dict from names to values.
        name: the name a user gave.
        kind: what the table holds, in words ("sampler"), for the error.

    Raises:
        ValueError: `unknown sampler 'dpm'. Choose from: ddim, ddpm, ...`
    """
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}. Choose from: {', '.join(sorted(table))}.")
    return table[name]
