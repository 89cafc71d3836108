"""`budgetnet check`: look at data before they are trained on."""

import click

from budgetnet.cli.failures import MISTAKEN
from budgetnet.cli.options import PIXELS, Asked, Photos, data_option, gathered, json_option, set_option


@click.command()
@click.argument("target", metavar="DATA|FILE|NAME", required=False)
@gathered(
    "photos",
    Photos,
    click.option(
        "--size",
        type=PIXELS,
        metavar="PIXELS",
        help="Store the photos at this size, as folder(size=) will want them; by default nothing is kept.",
    ),
    click.option(
        "--shape",
        type=click.Choice(["crop", "squash"]),
        default="crop",
        show_default=True,
        help="How photos become square, as for folder().",
    ),
    click.option(
        "--part",
        multiple=True,
        metavar="PART=FOLDER",
        help="The folder of train, val or test, instead of DATA, where names do not say it. Repeatable.",
    ),
)
@click.option("--policies", is_flag=True, help="Print what is done with each kind of oddity, and stop.")
@gathered("asked", Asked, data_option, set_option)
@json_option("Print one JSON object, every file named.")
def command(target: str | None, photos: Photos, policies: bool, asked: Asked, as_json: bool) -> None:
    """Look at data before they are trained on.

    DATA is a folder of photos, every one of which is read once; a recipe's data() are loaded and looked at,
    and one step of each of its phases is tried; nothing is downloaded. All that is odd is named, with what is
    done about it, and the images of each class are counted. Exits with 2 where a run would be refused.
    """
    from budgetnet import data
    from budgetnet.cli.check import check_target

    if policies:
        click.echo(data.policies())
    elif (target is None) == (not photos.part):
        raise click.UsageError("name a folder of photos or a recipe, or its parts, or ask for --policies")
    elif check_target(target, asked, photos, as_json=as_json).refused:
        click.get_current_context().exit(MISTAKEN)
