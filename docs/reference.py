"""Writes docs/reference.md out of the docstrings and signatures of everything that budgetnet makes public.

    python docs/reference.py            # writes docs/reference.md
    python docs/reference.py --check    # exits with 1 where that would change it

Signatures are copied from the source as they are written there, so that the page is the same whichever
Python and torch it is made with.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click

import budgetnet
from budgetnet.cli import main as command_line

PAGE = Path(__file__).with_name("reference.md")
PACKAGE = Path(budgetnet.__file__).parent
ROOMS = (
    *("budget", "models", "layers", "data", "augment", "schedule", "optim", "loss", "distill"),
    *("pseudo", "recipe", "trainer", "engine", "reporting", "page", "pictures", "profiling", "run"),
    *("modelfile", "plan", "compare", "sweep", "compression", "exporting", "metrics"),
)
WIDTH = 100
HEAD = """\
<!-- fmt: off -->

# Reference

Everything that budgetnet makes public, room by room, as its docstrings say it. `make reference` writes this
page again; change the docstrings, not the page. The names under [models](#models), [layers](#layers)
and [metrics](#metrics) are reached as `models.NAME` and so on, all others are imported from `budgetnet`
itself. For a first walk through them see the [tutorial](tutorial.md).
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Alias = ast.Assign | ast.AnnAssign
Definition = Function | ast.ClassDef | Alias


@dataclass(frozen=True)
class Found:
    """A name, the module and the node of its definition, and its docstring."""

    name: str
    module: str
    node: Definition
    text: str

    @property
    def room(self) -> str:
        """The room of its module: "budget" for budgetnet.budget.limits."""
        return self.module.split(".")[1]

    @property
    def path(self) -> str:
        """Where it is imported from when it is not public: budget.Step, or trainer.images.Images."""
        face = find(f"budgetnet.{self.room}", self.name)
        module = f"budgetnet.{self.room}" if face == self else self.module
        return f"{module}.{self.name}".removeprefix("budgetnet.")


# Finding: a public name's definition, and what its signature names.


@cache
def source(module: str) -> str:
    """The source of a module of budgetnet."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


@cache
def statements(module: str) -> tuple[ast.stmt, ...]:
    """The statements of a module, those for type checkers included."""
    found: list[ast.stmt] = []
    for node in ast.parse(source(module)).body:
        found += node.body if isinstance(node, ast.If) else [node]
    return tuple(found)


def find(module: str, name: str) -> Found | None:
    """The definition of a name of `module`, wherever in budgetnet that lies; None for anything else."""
    body = statements(module)
    for node, after in zip(body, (*body[1:], None)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    # What a face names of itself is one of its files.
                    ours = str(node.module).startswith("budgetnet.") and node.module != module
                    return find(str(node.module), alias.name) if ours else None
        elif isinstance(node, Function | ast.ClassDef) and node.name == name:
            return Found(name, module, node, ast.get_docstring(node) or "")
        elif isinstance(node, Alias) and name in assigned(node):
            return Found(name, module, node, text_of(after))
    return None


def text_of(node: ast.stmt | None) -> str:
    """The text that a statement is, such as the one below an alias; "" where it is none."""
    value = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else ""
    return inspect.cleandoc(value) if isinstance(value, str) else ""


def assigned(node: Alias) -> list[str]:
    """The names that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def public() -> dict[str, list[Found]]:
    """The definitions of all public names by room, in the order in which each room lists them."""
    found: dict[str, list[Found]] = {room: [] for room in ROOMS}
    rooms = [name for name in budgetnet.__all__ if name in ROOMS and not find("budgetnet", name)]
    lists = {"budgetnet": [name for name in budgetnet.__all__ if name not in (*rooms, "__version__")]}
    for module in (f"budgetnet.{room}" for room in rooms):
        listed = find(module, "__all__")
        assert listed is not None, module
        assert isinstance(listed.node, ast.Assign), module
        lists[module] = ast.literal_eval(listed.node.value)
    for module, names in lists.items():
        for name in names:
            known = find(module, name)
            assert known is not None, f"{module}.{name}"
            found[known.room].append(known)
    return found


def named(shown: list[Found]) -> list[Found]:
    """What `shown` name of budgetnet that is not public: types in signatures, anything in docstrings."""
    seen = {(found.module, found.name) for found in shown}
    more, waiting = [], list(shown)
    while waiting:
        of = waiting.pop(0)
        types = [find(of.module, name) for name in names_in(of.node) if not name.startswith("_")]
        told = [find(f"budgetnet.{of.room}", name) for name in re.findall(r"`([^\W_]\w*)`", of.text)]
        for known in [*(known for known in types if known and is_type(known.node)), *told]:
            if known is not None and (known.module, known.name) not in seen:
                seen.add((known.module, known.name))
                more.append(known)
                waiting.append(known)
    return more


def is_type(node: Definition) -> bool:
    """Whether a definition is a class or a name for a type, rather than a function or a constant."""
    if isinstance(node, Alias):
        return not isinstance(node.value, ast.Call | ast.Constant | ast.Tuple | ast.Dict | ast.List)
    return isinstance(node, ast.ClassDef)


def names_in(node: Definition) -> Iterator[str]:
    """The names in the annotations of a definition and of its public methods."""
    if isinstance(node, Alias):
        yield from words(node.value)
    elif isinstance(node, Function):
        for parameter in ast.walk(node.args):
            yield from words(parameter.annotation if isinstance(parameter, ast.arg) else None)
        yield from words(node.returns)
    else:
        for field in fields(node):
            yield from words(field.annotation)
        for method in methods(node):
            yield from names_in(method)


def words(annotation: ast.expr | None) -> Iterator[str]:
    """The bare names in an annotation, also in one that is text."""
    for node in ast.walk(annotation) if annotation is not None else ():
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


def methods(node: ast.ClassDef) -> list[Function]:
    """The public methods and properties of a class, and those special ones that have a docstring."""
    found = [child for child in node.body if isinstance(child, Function)]
    return [
        child
        for child in found
        if not child.name.startswith("_") or (child.name.startswith("__") and ast.get_docstring(child))
    ]


def fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    """The public fields of a dataclass."""
    return [
        child
        for child in node.body
        if isinstance(child, ast.AnnAssign) and not ast.unparse(child.target).startswith("_")
    ]


def marks(node: Function | ast.ClassDef) -> set[str]:
    """The names of the decorators: dataclass, property, classmethod."""
    calls = (mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list)
    return {ast.unparse(call).split(".")[-1] for call in calls}


# Writing: signatures as they stand in the source, docstrings as Markdown.


def written(module: str, node: ast.expr) -> str:
    """An expression as its author wrote it, on one line."""
    return " ".join((ast.get_source_segment(source(module), node) or "").split())


def annotated(module: str, node: ast.expr) -> str:
    """An annotation as its author wrote it, without quotes around all of it."""
    return re.sub(r'^"(\w+)"$', r"\1", written(module, node))


def call(found: Found, function: Function, name: str, *, bound: bool) -> str:
    """`name(parameters) -> result`, the first parameter left out where it is `bound` already."""
    given, module = function.args, found.module
    positional = [*given.posonlyargs, *given.args]
    values = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    parts = [parameter(module, arg, value) for arg, value in zip(positional, values)]
    if given.posonlyargs:
        parts.insert(len(given.posonlyargs), "/")
    parts = parts[1:] if bound else parts
    parts = parts[1:] if parts[:1] == ["/"] else parts
    if given.vararg is not None:
        parts.append("*" + parameter(module, given.vararg, None))
    elif given.kwonlyargs:
        parts.append("*")
    parts += [parameter(module, arg, value) for arg, value in zip(given.kwonlyargs, given.kw_defaults)]
    if given.kwarg is not None:
        parts.append("**" + parameter(module, given.kwarg, None))
    result = "" if function.returns is None else f" -> {annotated(module, function.returns)}"
    return folded(name, parts, "" if function.name == "__init__" else result)


def parameter(module: str, arg: ast.arg, value: ast.expr | None) -> str:
    """`name: annotation = default`."""
    kind = f": {annotated(module, arg.annotation)}" if arg.annotation is not None else ""
    if re.fullmatch(r": \w+\.(args|kwargs)", kind):
        kind = ""  # those of a ParamSpec: whatever the function before them takes
    equals = " = " if kind else "="
    return arg.arg + kind + (f"{equals}{written(module, value)}" if value is not None else "")


def folded(name: str, parts: list[str], result: str) -> str:
    """A call on one line, or with a line for each parameter where that is too long."""
    whole = f"{name}({', '.join(parts)}){result}"
    return whole if len(whole) <= WIDTH else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){result}"


def construction(found: Found, node: ast.ClassDef) -> str:
    """How a class is called, or just its name where nobody calls it."""
    own = [child for child in node.body if isinstance(child, Function) and child.name == "__init__"]
    bases = [ast.unparse(base) for base in node.bases]
    if "Protocol" in bases or any(base.endswith("Error") for base in bases):
        return f"class {node.name}({', '.join(bases)})"
    if own:
        return call(found, own[0], f"class {node.name}", bound=True)
    if "dataclass" not in marks(node):
        return f"class {node.name}" + (f"({', '.join(bases)})" if bases else "")
    parts = []
    for field in fields(node):
        value = "" if field.value is None else written(found.module, field.value)
        made = re.fullmatch(r"field\(default_factory=(\w+)\)", value)
        default = f" = {made[1]}()" if made else f" = {value}" if value else ""
        parts.append(f"{ast.unparse(field.target)}: {annotated(found.module, field.annotation)}{default}")
    return folded(f"class {node.name}", parts, "")


def markdown(text: str) -> str:
    """A docstring as Markdown: examples become code, and lists of arguments become lists."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text).replace("\n::\n", "\n"))
    return "\n\n".join(block_of(block) for block in blocks if block.strip() not in ("", "::"))


def block_of(block: str) -> str:
    """One block of a docstring, without empty lines, as Markdown."""
    header, _, rest = block.partition("\n")
    lines = inspect.cleandoc("\n" + rest)
    if header in ("Args:", "Raises:", "Attributes:"):
        entries = re.sub(r"^([\w, *]+): ", r"- `\1`: ", lines, flags=re.MULTILINE)
        title = "Arguments" if header == "Args:" else header[:-1]
        return f"{title}:\n\n" + re.sub(r"^ +", "  ", entries, flags=re.MULTILINE)
    if header in ("Returns:", "Yields:"):
        return f"{header} {lines}"
    if header in ("Example:", "Examples:"):
        return f"{header}\n\n{code(lines)}"
    if block.startswith(">>>") or all(line.startswith("    ") for line in block.splitlines()):
        return code(inspect.cleandoc("\n" + block))
    return re.sub(r"::$", ":", block)


def code(text: str) -> str:
    """Python in a fence, without what only doctest reads."""
    return "```python\n" + re.sub(r" *# doctest:.*$", "", text, flags=re.MULTILINE) + "\n```"


# The page: a section for each room, and one for the command line.


def entry(found: Found, title: str) -> Iterator[str]:
    """The paragraphs of one name."""
    node = found.node
    yield f"### {title}"
    if isinstance(node, Alias):
        assert node.value is not None, title
        yield code(f"{found.name} = {written(found.module, node.value)}")
    elif isinstance(node, Function):
        yield code(call(found, node, found.name, bound=False))
    else:
        yield code(construction(found, node))
    if found.text:
        yield markdown(found.text)
    if isinstance(node, ast.ClassDef):
        yield from members(found, node)


def members(found: Found, node: ast.ClassDef) -> Iterator[str]:
    """The paragraphs of a class: a list of what one line describes, then its other methods."""
    listed, described = [], []
    for method in methods(node):
        text, kinds = ast.get_docstring(method) or "", marks(method)
        if kinds & {"property", "cached_property"}:
            kind = f": {annotated(found.module, method.returns)}" if method.returns is not None else ""
            listed.append(f"- `{method.name}{kind}`: {' '.join(text.split())}")
        elif method.name != "__init__" and text:
            name = f"{node.name}.{method.name}" if "classmethod" in kinds else method.name
            shown = call(found, method, name, bound="staticmethod" not in kinds)
            if "\n" not in text and "\n" not in shown:
                listed.append(f"- `{shown}`: {text}")
            else:
                described += [f"#### {node.name}.{method.name}", code(shown), markdown(text)]
    if listed:
        yield "Members:"
        yield "\n".join(listed)
    yield from described


def room(name: str, shown: list[Found], more: list[Found]) -> Iterator[str]:
    """The paragraphs of one room: its public names, then what these name."""
    yield f"## {name}"
    yield text_of(statements(f"budgetnet.{name}")[0]).split("\n\n")[0]
    for found in shown:
        yield from entry(found, found.name)
    for found in more:
        yield from entry(found, found.path)


def commands() -> Iterator[str]:
    """The paragraphs of the command line, from names and help texts: how click lays them out varies."""
    yield "## The command line"
    yield markdown(command_line.help or "")
    for name, command in command_line.commands.items():
        arguments = [param.metavar or "" for param in command.params if isinstance(param, click.Argument)]
        yield f"### budgetnet {name}"
        yield "```sh\n" + " ".join(["budgetnet", name, "[OPTIONS]", *arguments]) + "\n```"
        yield markdown(command.help or "")
        rows = [option(param) for param in command.params if isinstance(param, click.Option)]
        if rows:
            yield "\n".join(rows)


def option(found: click.Option) -> str:
    """One option as an item of a list."""
    choices = getattr(found.type, "choices", ())
    value = found.metavar or ("|".join(choices) if choices else found.type.name.split()[0].upper())
    shown = ", ".join([*found.opts, *found.secondary_opts]) + ("" if found.is_flag else f" {value}")
    default = f"Default: `{found.default}`." if found.show_default and found.default else ""
    return " ".join([f"- `{shown}`:", *(found.help or "").split(), default]).rstrip()


def page() -> str:
    """The whole page."""
    shown = public()
    types = named([found for rooms in shown.values() for found in rooms])
    parts = [HEAD.rstrip()]
    for name in ROOMS:
        parts += room(name, shown[name], [found for found in types if found.room == name])
    return "\n\n".join([*parts, *commands()]) + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with --check only say whether it is up to date; the exit code."""
    files = [argument for argument in arguments if argument != "--check"]
    path = Path(files[0]) if files else PAGE
    if "--check" not in arguments:
        path.write_text(page(), encoding="utf-8")
        return 0
    if path.exists() and path.read_text(encoding="utf-8") == page():
        return 0
    print(f"{path} is out of date: run `make reference` and commit what it writes", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
