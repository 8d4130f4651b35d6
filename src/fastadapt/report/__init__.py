"""Pictures and tables of runs; needs `pip install 'fastadapt[plot]'`, asked for only when something is drawn.

* `write_report`: everything for one run, into `runs/<name>/report/`.
* `draw_curves`: a training, from its `metrics.jsonl`.
* `draw_adaptation`, `draw_steps`, `evaluate_shots`: the figures of the sine-wave study.
* `draw_task`: one image task, with what was answered.
* `tune_step_size`: the best fine-tuning rate, found on tasks of its own.
* `evaluation_table`, `comparison_table`: numbers as Markdown.
"""

from fastadapt.compare.shots import evaluate_shots
from fastadapt.compare.tune import Tuned, tune_step_size
from fastadapt.report.classes import draw_task
from fastadapt.report.curves import draw_curves
from fastadapt.report.sinusoid import draw_adaptation
from fastadapt.report.steps import draw_steps
from fastadapt.report.table import comparison_table, evaluation_table
from fastadapt.report.write import write_report

__all__ = [
    "Tuned",
    "comparison_table",
    "draw_adaptation",
    "draw_curves",
    "draw_steps",
    "draw_task",
    "evaluate_shots",
    "evaluation_table",
    "tune_step_size",
    "write_report",
]
