"""`budgetnet push`: publish a trained model with its card on a model hub."""

import click

from budgetnet.cli.options import licence_option, model_argument


@click.command()
@model_argument
@click.argument("repo", metavar="OWNER/NAME")
@licence_option
@click.option("--private", is_flag=True, help="For your eyes only, where the repository is made now.")
def command(target: str, repo: str, licence: str, private: bool) -> None:
    """Publish a trained model with its card on a model hub.

    The model file, its card as README.md, and what was exported beside it go to the repository OWNER/NAME of
    huggingface.co, or of the hub in HF_ENDPOINT, as whom you are logged in (hf auth login). It prints what
    loads exactly this file: hub:OWNER/NAME@DIGEST. Needs the extra hub: pip install 'budgetnet[hub]'.
    With BUDGETNET_OFFLINE set nothing is pushed.
    """
    from budgetnet.cli.trained import trained
    from budgetnet.console import say
    from budgetnet.exporting import push

    say(str(push(trained(target).file, repo, licence=licence, private=private)))
