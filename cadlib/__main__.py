"""The command line: parse, call, print. `python -m cadlib --help` lists the commands."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from cadlib.errors import CadError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 for success, 1 if something failed, 2 for bad usage, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except CadError as error:
        print(f"cadlib: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"cadlib: {str(stop) or 'Stopped.'}", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    root = argparse.ArgumentParser(prog="python -m cadlib", description="Computer-aided diagnosis of skin lesions.")
    commands = root.add_subparsers(required=True, metavar="command")
    _add_train(commands.add_parser("train", help="train a model on images with labels"))
    return root


def _add_train(command: argparse.ArgumentParser) -> None:
    from cadlib.training import TrainConfig

    command.set_defaults(run=_train)
    command.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    command.add_argument("--name", required=True, help="name of the model, a folder under models/")
    command.add_argument("--run-dir", type=Path, help="checkpoint, split and history (default: runs/NAME)")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    for setting in fields(TrainConfig):
        flag = f"--{setting.name.replace('_', '-')}"
        text = f"{setting.metadata['help']} (default: {setting.default})"
        if isinstance(setting.default, bool):
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=setting.default, help=text)
        else:
            command.add_argument(flag, type=type(setting.default), default=setting.default, help=text)


def _train(options: argparse.Namespace) -> int:
    from cadlib.training import TrainConfig, train

    config = TrainConfig(**{setting.name: getattr(options, setting.name) for setting in fields(TrainConfig)})
    trained = train(options.data, options.run_dir or Path("runs") / options.name, config, resume=options.resume)
    if trained is not None:
        from cadlib.packing import pack

        print(f"Model written to {pack(trained, options.name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
