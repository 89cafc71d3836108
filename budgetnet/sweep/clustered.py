"""Clustered: jobs trained as tasks of a cluster, each in the folder where it can go on."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from budgetnet.files import new_folder
from budgetnet.run import Run
from budgetnet.sweep.cluster import Cluster
from budgetnet.sweep.job import FAILURE, Job
from budgetnet.sweep.tasks import connected, ended, lost, task
from budgetnet.sweep.worker import train_job
from budgetnet.trainer import Trainer


def clustered(
    cluster: Cluster, trainer: Trainer, jobs: Sequence[Job], limit: float | None
) -> Iterator[tuple[int, Run]]:
    """Train jobs as tasks; gives each run, read from its folder, as it ends."""
    until = None if limit is None else time.time() + limit
    folders = [job.folder or new_folder(job.out, job.called) for job in jobs]
    first = cluster.engine(trainer)
    calls = [
        (
            {**first, "recipe": str(job.plan.path.absolute())},
            {
                **job.message(folder.absolute(), resume=False, alone=True, until=until),
                "threads": cluster.threads,
            },
        )
        for job, folder in zip(jobs, folders, strict=True)
    ]
    with connected(cluster, trainer) as ray:
        begin = task(ray, cluster, train_job).remote
        refs = {begin(*call): at for at, call in enumerate(calls)}
        for ref in ended(ray, refs):
            at = refs[ref]
            try:
                failure: Mapping[str, str] = ray.get(ref)
            except ray.exceptions.RayError as error:
                failure = {"kind": "failed", "error": lost(error)}
            yield at, _read(jobs[at], folders[at], failure)


def _read(job: Job, folder: Path, failure: Mapping[str, str]) -> Run:
    try:
        run = Run.read(folder)
    except ValueError:
        run = Run(folder=folder, record={**job.record, "seed": job.plan.recipe.seed})
    if failure:
        run.record |= {"status": "failed", "error": failure["error"], FAILURE: failure["kind"]}
    return run
