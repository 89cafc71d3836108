"""Task: what is searched: which plan's settings, in which domains, for which figures, with which effort."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from budgetnet.plan import Plan
from budgetnet.sweep.effort import Effort, Rung, chosen, rungs
from budgetnet.sweep.folder import described
from budgetnet.sweep.grid import Setting, literal, written
from budgetnet.sweep.over import Latest
from budgetnet.sweep.space import Between, Domain
from budgetnet.trainer import Trainer


@dataclass(frozen=True)
class Task:
    """A search, as every one of its workers has it."""

    trainer: Trainer
    plan: Plan
    domains: Mapping[str, Domain]
    trials: int
    metric: str
    against: tuple[str, ...]
    effort: Effort
    record: Mapping[str, Any]

    @cached_property
    def data(self) -> Latest:
        """The data, which are loaded once where all trials have the same."""
        return Latest()

    @cached_property
    def prune(self) -> str:
        """How trials are ended early."""
        return chosen(self.effort.prune, self.plan.recipe, self.trials, many=bool(self.against))

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The stages of a trial, the last of which is the recipe as it is."""
        return rungs(self.prune)

    @property
    def seeds(self) -> range:
        """The seeds of each trial."""
        return range(self.plan.recipe.seed, self.plan.recipe.seed + self.effort.seeds)

    def setting(self, texts: Mapping[str, str]) -> Setting:
        """The setting that was written as these texts."""
        values: dict[str, Any] = {}
        for path, text in texts.items():
            domain = self.domains[path]
            choices = () if isinstance(domain, Between) else domain
            known = (value for value in choices if written(value) == text)
            values[path] = next(known, None) if choices else literal(text)
        return Setting(values)

    @property
    def domain_texts(self) -> dict[str, str | list[str]]:
        """The domains as they are typed, choices value by value."""
        return {
            path: str(domain) if isinstance(domain, Between) else [written(value) for value in domain]
            for path, domain in self.domains.items()
        }

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What makes it this search and no other, as plain JSON."""
        told = {
            "plan": described(self.plan),
            "seed": self.plan.recipe.seed,
            "search": self.domain_texts,
            "metric": [self.metric, *self.against],
            "prune": self.prune,
            "seeds": self.effort.seeds,
        }
        plain: dict[str, Any] = json.loads(json.dumps(told, default=str))
        return plain
