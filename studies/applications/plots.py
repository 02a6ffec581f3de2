"""The figures of all applications that were measured."""

from studies.applications.measure import module
from studies.figures import copy_png, save_all


def plot(results, stages, folder):
    """Writes them; those of images only if the images are cached."""
    for name, result in results["measured"].items():
        application = module(name)
        save_all(folder, application.figures(result, stages))
        for file, source in getattr(application, "COPIED", {}).items():
            copy_png(stages.path(*source), folder / file)
