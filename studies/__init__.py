"""Studies: questions answered by a training, each with one command, figures and a page.

    python -m studies.NAME [--epochs N | --minutes M] [--data-dir DIR] [--tiny] [--report]

A study is a folder of at least five files:

    __init__.py   Settings (a dataclass), TINY (settings of a toy run); optionally
                  add_flags(parser), settings(args) -> Settings, and measure_options(args) ->
                  further arguments of `measure`, which do not decide the results
    measure.py    measure(settings, stages, data_dir) -> results, JSON-serialisable;
                  `stages` caches them, `data_dir` is the folder of tfds
    plots.py      plot(results, stages, folder): writes figures
    report.py     claims(results) -> [Claim]; values(results) -> values of the page
    page.md       the page, with placeholders for results and values

Shared modules: `command.py` (command line), `stages.py` (cached results), `parts.py` (trainings in
parts), `runs.py` (trainings as train.py does them), `scoring.py` (scores of images), `figures.py`
(files of figures) and `report.py` (claims and README.md). Settings hold everything that decides
the results; `__init__.py` imports nothing heavy, so that `--help` is quick.

`studies/results/NAME` has results.json, the figures and README.md. README.md is generated from
results.json alone: code decides from the numbers whether a claim holds.
"""
