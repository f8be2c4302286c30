"""The command line: `twinloop --help`. It talks to the local cloud while that is up, else to the AWS account."""

from __future__ import annotations

from typing import Annotated

import typer

from twinloop.commands import (
    card,
    cloud,
    data,
    demo,
    evaluate,
    features,
    learn,
    models,
    monitor,
    refresh,
    review,
    search,
    simulate,
    target,
    train,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals can hold keys
    help="Recommendation, ads, moderation and search on your own AWS account, or whole on a laptop.",
)


@app.callback()
def choose_target(
    aws: Annotated[
        bool, typer.Option("--aws", help="Talk to the AWS account even while the local cloud is up.")
    ] = False,
) -> None:
    """Talk to the local cloud while it is up, else to the AWS account of the environment (AWS_PROFILE, ...)."""
    target.use_aws(aws)


for command in (
    demo.demo,
    cloud.up,
    cloud.down,
    cloud.status,
    data.data,
    data.load,
    data.lake,
    data.replay,
    learn.learn,
    train.train,
    evaluate.evaluate,
    models.models,
    models.promote,
    models.rollback,
    features.features,
    monitor.monitor,
    simulate.simulate,
    card.card,
    refresh.refresh,
    search.zero_results,
):
    app.command()(command)


app.add_typer(review.app, name="review")


def main() -> None:
    """Run the command line."""
    app()
