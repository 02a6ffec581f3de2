"""All applications, one after the other."""

import importlib

from studies.applications import APPLICATIONS
from studies.applications.context import CachedStages, Context, NotMeasured


def module(name):
    """Returns the module of an application.

    It has `TITLE`, `measure(context) -> result`, a JSON-serialisable dict, `claims(result) ->
    [Claim]`, `section(result) -> Markdown`, its part of the page, and `figures(result, stages) ->
    {name: function that returns a figure}`. It may have `COPIED`, {file: (stage, file there)}.
    """
    return importlib.import_module(f"studies.applications.{name}")


def measure(settings, stages, data_dir, only=None, xrays=None):
    """Returns {"measured": {application: result}, "left_out": {application: reason}}.

    Args:
        settings: `Settings`.
        stages: `Stages`.
        data_dir: folder of tfds, or None.
        only: names of applications; the others are looked up in the cache. None: all.
        xrays: folder of X-rays.
    """
    fresh = Context(settings, stages, data_dir, xrays)
    cached = Context(settings, CachedStages(stages), data_dir, xrays)
    measured, left_out = {}, {}
    for name in APPLICATIONS:
        try:
            measured[name] = module(name).measure(fresh if only is None or name in only else cached)
        except NotMeasured as reason:
            left_out[name] = str(reason)
    return {"measured": measured, "left_out": left_out}
