"""Clustered: Ray connected to, and jobs and functions as its tasks, each in the folder where it can go on."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from budgetnet.files import new_folder
from budgetnet.run import Run
from budgetnet.sweep.cluster import Cluster
from budgetnet.sweep.job import FAILURE, Job
from budgetnet.sweep.worker import train_job
from budgetnet.trainer import Trainer

_PORT, _STATISTICS = 10001, "RAY_USAGE_STATS_ENABLED"
_RETRIES = 3
"""How often a task whose process was lost is begun again, from its checkpoint."""
_PATIENCE = 60.0
"""Seconds that the tasks have to come to a step's end."""


@contextmanager
def connected(cluster: Cluster, trainer: Trainer) -> Iterator[Any]:
    """Ray, connected to; a local one is begun, and ended with this."""
    try:
        import ray
    except ImportError:
        raise ValueError("ray is not installed: pip install 'budgetnet[ray]'") from None
    begun, before = not ray.is_initialized(), os.environ.get(_STATISTICS)
    if begun:
        # Nothing leaves the machine but what was asked for.
        os.environ.setdefault(_STATISTICS, "0")
        named = {name: os.environ[name] for name in ("BUDGETNET_DATA",) if name in os.environ}
        host = cluster.address.removeprefix("ray://")
        remote = cluster.address != "ray"
        ray.init(
            address=(f"ray://{host}" if ":" in host else f"ray://{host}:{_PORT}") if remote else None,
            runtime_env={"env_vars": named} if named else None,
            include_dashboard=None if remote or "RAY_ADDRESS" in os.environ else False,
            log_to_driver=trainer.show,
            logging_level="ERROR",
        )
    try:
        yield ray
    finally:
        if begun:
            ray.shutdown()
        if before is None:
            os.environ.pop(_STATISTICS, None)


def task(ray: Any, cluster: Cluster, function: Callable[..., Any]) -> Any:
    """A function as a task, with the cluster's resources."""
    options = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=_RETRIES)
    return options(function)


def slots(ray: Any, cluster: Cluster) -> int:
    """How many tasks go at once."""
    resources = ray.cluster_resources()
    counts = [resources.get("CPU", 1.0) / cluster.cpus]
    counts += [resources.get("GPU", 0.0) / cluster.gpus] if cluster.gpus else []
    return max(1, int(min(counts)))


def lost(error: Exception) -> str:
    """Why a task was lost, in a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"its task was lost: {lines[-1] if lines else type(error).__name__}"


def ended(ray: Any, refs: Mapping[Any, int]) -> Iterator[Any]:
    """Tasks as they end, those that join meanwhile too; at an error the others end at a step's end."""
    left: set[Any] = set()
    seen: set[Any] = set()
    try:
        while left := set(refs) - seen:
            done, _ = ray.wait(list(left), timeout=1.0)
            for ref in done:
                seen.add(ref)
                yield ref
    except BaseException:
        left = set(refs) - seen
        for ref in left:
            ray.cancel(ref)
        ray.wait(list(left), num_returns=len(left), timeout=_PATIENCE) if left else None
        raise


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
