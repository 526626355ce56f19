"""``python -m fedsim`` is ``fedsim``."""

from fedsim.distribution import warn_of_mixed_project


def main() -> None:
    """Run a command, unless another project has replaced files of this one."""
    warn_of_mixed_project()
    from fedsim.cli import main as run_command

    run_command()


main()
