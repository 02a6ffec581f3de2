"""Studies: questions that a training answers, each with one command, figures and a page.

    python -m studies.NAME [--epochs N | --minutes M] [--data-dir DIR] [--tiny] [--report]

A study is a folder of four files:

    studies/NAME/__init__.py   TITLE, QUESTION, add_flags(flags), settings(given) -> dataclass
    studies/NAME/measure.py    measure(settings, kept, data_dir) -> results, as JSON allows
    studies/NAME/draw.py       draw(results, kept, folder): writes its figures as PNG
    studies/NAME/report.py     claims(results) -> [page.Claim]; report(results) -> [markdown]

What is common is beside them: `command.py` (the command line), `kept.py` (stages, made once),
`runs.py` (trainings as train.py has them), `scoring.py` (how pictures are judged), `figures.py`
(the only matplotlib here) and `page.py` (README.md). The settings are all that decides the
results; the first file imports nothing heavy, so that `--help` is quick.

`studies/results/NAME` holds results.json, the figures and README.md, which are made from
results.json alone: whether a claim holds is decided by code, from the figures measured.
"""
