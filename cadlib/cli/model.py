"""Verifies a model folder, or migrates it to the current format."""

import argparse

from cadlib.cli.usage import check_found

VERIFY_HELP = (
    "name every file and field that changed since the model was written, and every answer that did"
)
MIGRATE_HELP = "write the folder of an earlier version in the current format, with the same answers"


def add(command: argparse.ArgumentParser) -> None:
    """Add the two subcommands and their flags."""
    actions = command.add_subparsers(required=True, metavar="action")
    verify = actions.add_parser("verify", help=VERIFY_HELP, description=VERIFY_HELP)
    verify.set_defaults(run=run_verify)
    migrate = actions.add_parser("migrate", help=MIGRATE_HELP, description=MIGRATE_HELP)
    migrate.set_defaults(run=run_migrate)
    migrate.add_argument(
        "--accept-changes",
        action="store_true",
        help="make what was changed by hand part of the model",
    )
    for action in (verify, migrate):
        action.add_argument(
            "--model", default="isic2019", help="name under models/, or a path (default: isic2019)"
        )


def run_verify(options: argparse.Namespace) -> int:
    """Print every change of a model folder; return 0 without one, else 1."""
    from cadlib.model.verification import verify

    verified = verify(check_found(options.model))
    print(verified)
    return 0 if verified.unchanged else 1


def run_migrate(options: argparse.Namespace) -> int:
    """Write a model folder in the current format and print its id."""
    from cadlib.model.migration import migrate

    folder = check_found(options.model)
    record, accepted = migrate(folder, accept_changes=options.accept_changes)
    for change in accepted:
        print(f"accepted: {change}")
    print(f"{folder} is {record.model_id}")
    return 0
