"""`budgetnet completion`: print what makes a shell complete commands, recipes and runs."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, recipes and runs.

    \b
    bash, in ~/.bashrc:  eval "$(budgetnet completion bash)"
    zsh, in ~/.zshrc:    eval "$(budgetnet completion zsh)"
    fish:  budgetnet completion fish > ~/.config/fish/completions/budgetnet.fish
    """
    from click.shell_completion import get_completion_class

    kind, whole = get_completion_class(shell), context.find_root().command
    assert kind is not None
    click.echo(kind(whole, {}, "budgetnet", "_BUDGETNET_COMPLETE").source())
