"""Markup: pages from templates, in which every name is text and nothing else."""

from pathlib import Path
from typing import Any

from budgetnet.text import inline

OWN = Path(__file__).parent / "templates"


class NoTemplates(ValueError):
    """No page can be written: jinja2 is not installed."""


_known: dict[Path, Any] = {}


def rendered(template: str, folder: Path = OWN, **values: Any) -> str:
    """The template of this name in `folder`, or else here, filled in. Raises `NoTemplates` without jinja2.

    What the values say is escaped, and what turns the direction of writing is shown as what it is.
    """
    try:
        from jinja2 import ChainableUndefined, Environment, FileSystemLoader
    except ImportError:
        raise NoTemplates(
            "a report needs jinja2, which is not installed: pip install 'budgetnet[report]'"
        ) from None
    if folder not in _known:
        _known[folder] = Environment(
            loader=FileSystemLoader([folder, OWN]),
            autoescape=True,
            undefined=ChainableUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=lambda value: (
                value if hasattr(value, "__html__") or value is None else inline(str(value))
            ),
        )
    return str(_known[folder].get_template(template).render(**values))
