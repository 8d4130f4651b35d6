"""Looks at what users and authors bring, before hours are spent on it: sources of tasks, and learners."""

from fastadapt.checks.learner import check_learner as check_learner
from fastadapt.checks.tasks import check_tasks as check_tasks
