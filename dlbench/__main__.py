"""``python -m dlbench``."""

if __name__ == "__main__":
    import sys

    if not sys.flags.safe_path:
        del sys.path[0]  # the working folder: libraries must not find there what they try to import

    from dlbench.cli import main

    main()
